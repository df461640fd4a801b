"""A double of Discord as strict as its documentation, and the bot as a process against it.

`server.Discord` serves the API and the gateway. `people` makes places and lets people act there,
`state` is what exists, `api` is what requests do to it, `rules` checks their bodies, `limits`
counts them, and `faults` lets them fail. `process` runs the bot. The tests are of the double, with
the client of `app`, and of the bot, with the fixture `scene`.
"""
