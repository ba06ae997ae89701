"""Detectors of change: one value after the other, constant memory, True when what comes is no longer what came.

After a change a detector begins anew. None is locked: whoever shares one among threads holds a lock around it.
`Adwin` is a window of its own size; `PageHinkley` and `Cusum` sum up how far values stray from their mean; `Ddm`
watches the rate of failures. docs/drift_kernels.md says which to take.
"""

from llmguard.kernels.change_adwin import Adwin
from llmguard.kernels.change_cusum import Cusum
from llmguard.kernels.change_ddm import Ddm
from llmguard.kernels.change_page_hinkley import PageHinkley

__all__ = ["Adwin", "Cusum", "Ddm", "PageHinkley"]
