"""A model for mlserver that says what it was told, whole or in pieces of three letters."""

from collections.abc import AsyncIterator

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Echo(MLModel):
    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        told = StringCodec.decode_input(payload.inputs[0])
        sizes = NumpyCodec.encode_output("size", np.array([len(text) for text in told], np.float32))
        return self._answer([f"I am eva@example.com. You said: {text}" for text in told], sizes)

    async def predict_stream(self, payloads: AsyncIterator[InferenceRequest]) -> AsyncIterator[InferenceResponse]:
        async for payload in payloads:
            said = f"I am eva@example.com. You said: {StringCodec.decode_input(payload.inputs[0])[0]}"
            for at in range(0, len(said), 3):
                yield self._answer([said[at : at + 3]])

    def _answer(self, texts: list[str], *more) -> InferenceResponse:
        return InferenceResponse(model_name=self.name, outputs=[StringCodec.encode_output("text", texts), *more])
