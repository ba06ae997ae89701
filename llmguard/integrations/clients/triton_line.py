"""What came last on a line of Triton over gRPC, and how it ended: its client keeps the id of an error to itself.

The client's own methods run as they are, on a stub that we stand before. There is no public way to that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import wrapt

from llmguard.integrations.clients.triton_pieces import is_final

if TYPE_CHECKING:
    _Proxy = wrapt.ObjectProxy[Any]
else:
    _Proxy = wrapt.ObjectProxy


class Line:
    """The answers of one line.

    Args:
        ended: called on the thread that reads, when the server has said all.

    Attributes:
        id: of the request that the latest answer belongs to; "" where it does not say.
        final: whether that is its last one; None where it does not say.
        broken: whether the line has ended by an error.
    """

    def __init__(self, ended: Callable[[], None] | None = None) -> None:
        self._ended = ended
        self._call: Any = None
        self._answers: Any = None
        self.id = ""
        self.final: bool | None = None
        self.broken = False

    def of(self, client: Any, *, aside: bool = False) -> Any:
        """A client whose next stream is this line.

        Args:
            client: of tritonclient.
            aside: whether the stream is beside the one that the client has.
        """
        made = (_Aside if aside else _Client)(client)
        made._client_stub = self  # noqa: SLF001 - see the module
        self._stub = client._client_stub  # noqa: SLF001 - likewise
        return made

    def cancel(self) -> Any:
        """End it."""
        return self._call.cancel() if self._call is not None else False

    def is_active(self) -> bool:
        """Whether the call goes on."""
        return bool(self._call.is_active())

    def ModelStreamInfer(self, requests: Any, **how: Any) -> Any:  # noqa: N802 - the protocol's name
        """The call, as the stub makes it."""
        own = _marked(requests) if isinstance(requests, AsyncIterator) else requests
        self._call = self._stub.ModelStreamInfer(own, **how)
        return self

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            response = next(self._call)
        except StopIteration:
            if self._ended is not None:
                self._ended()
            raise
        except BaseException:
            self.broken = True
            raise
        return self._noted(response)

    def __aiter__(self) -> Line:
        return self

    async def __anext__(self) -> Any:
        if self._answers is None:
            self._answers = aiter(self._call)
        return self._noted(await anext(self._answers))

    def _noted(self, response: Any) -> Any:
        self.id = response.infer_response.id
        self.final = is_final(response.infer_response)
        if response.error_message and self.final is None:
            self.final = True  # Triton could not begin with it
        return response


class _Client(_Proxy):
    _client_stub: Any = None


class _Aside(_Client):
    _stream: Any = None


async def _marked(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Requests that ask for the last response, for which ``aio`` has no argument."""
    async for request in requests:
        request.parameters["triton_enable_empty_final_response"].bool_param = True
        yield request
