"""What people read: tables, from analysis only."""
