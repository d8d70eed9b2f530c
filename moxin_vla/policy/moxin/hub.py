"""Where a checkpoint is: a directory, or a Hugging Face id that is downloaded once."""

from pathlib import Path

from moxin_vla.core.errors import CheckpointError
from moxin_vla.policy.sources import may_be_hub_id

# Everything a checkpoint here reads; code that comes with a repository never runs.
_PATTERNS = ("*.json", "*.safetensors", "*.pt", "*.model", "lora_adapter/*", "checkpoints/latest*")


def find_checkpoint(source: str | Path) -> Path:
    """Return the directory of a checkpoint, downloading it if `source` is a Hugging Face id.

    Raises:
        CheckpointError: There is no such directory, or the id can't be downloaded.
    """
    directory = Path(source)
    if directory.is_dir():
        return directory
    if not may_be_hub_id(str(source)):
        raise CheckpointError(f"There is no checkpoint directory at '{source}'.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(source), allow_patterns=list(_PATTERNS)))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"There is no directory '{source}', and it can't be downloaded from Hugging Face: "
            f"{first_line} Check the id and the connection, and that HF_HUB_OFFLINE is not set."
        ) from None
