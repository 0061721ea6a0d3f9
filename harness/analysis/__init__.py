"""From the files of a run directory to figures. Nothing is printed or plotted here."""
