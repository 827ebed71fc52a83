"""Addresses that answer: many model servers, here or hosted, used as one.

Read `pool` first: it gives each request to the least loaded endpoint. `state` is what the pool knows of one endpoint,
`waiting` the requests for which none is free, `health` finds which endpoints are dead, back or leaving, `window` learns
how many requests one takes. `vllm_server` and `hosted` speak to one server each, over `http`; `assistant_turn` puts a
hosted reply together, `rate_limit` spreads requests over a minute, `failures` says what an error means for a request.
`addresses` reads addresses and the file that may change in use; `address_file` writes that file.
"""
