"""One module for each API family: call one service, build the answer. Handlers do not call each other.

How a module joins the broker: it exports

    HANDLERS: Final[Mapping[type[Message], Handler]] = {CreateTopicsRequest: handle_create_topics, ...}

with `Message` from `protocol.schema`, `Handler` from `handlers.context`, and functions of the shape

    async def handle_create_topics(context: RequestContext, request: CreateTopicsRequest) -> CreateTopicsResponse

`server.network.dispatch` collects these tables; key and versions come from the request class. ApiVersions lists what
is in the table and nothing else (`context.services.api_versions`). Produce and Fetch are the two exceptions: they are
synchronous and complete a slot of the connection later (`produce.ProduceHandler`, `fetch.FetchHandler`). A handler
catches what concerns one item of a request (`errors.error_code_of`); what it lets through becomes the top-level
`error_code` of the response where there is one, and closes the connection where there is none.
"""
