"""The web page: drop a recording or a mel, hear it vocoded, watch noise become sound; by Starlette and uvicorn."""
