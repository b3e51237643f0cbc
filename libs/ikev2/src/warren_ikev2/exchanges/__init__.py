"""The exchanges (RFC 7296, 1.2 to 1.5): Tasks for those that we begin, handlers for those that the peer begins.

A Task builds a request and takes its answer; a handler takes a request and returns a Reply. `dispatch`, one floor up, holds the
table of which handler is allowed in which state.
"""
