"""Globus Compute without the cloud: a local stand-in for its web service.

The SDK and the endpoint are the real ones, unmodified, and so is the broker (RabbitMQ). What
stands in is the web service between them: it registers functions and endpoints, takes tasks, hands
them to user endpoints and hands results back. ``docs/globus.md`` says what of the cloud's behaviour
it keeps.
"""
