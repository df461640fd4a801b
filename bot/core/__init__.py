"""Services in plain asyncio: scenes, the request queue, inference, training runs."""
