"""Where a checkpoint is: a directory, or a Hugging Face id that is downloaded once."""

from pathlib import Path

from moxin_vla.core.errors import CheckpointError

# Everything a checkpoint here reads; code that comes with a repository never runs.
_PATTERNS = ("*.json", "*.safetensors", "*.pt", "*.model", "lora_adapter/*", "checkpoints/latest*")


def is_hub_id(source: str) -> bool:
    """True for text of the form `owner/name` that is no path here."""
    parts = source.split("/")
    return len(parts) == 2 and all(parts) and parts[0][0].isalnum() and not Path(source).exists()


def find_checkpoint(source: str | Path) -> Path:
    """Return the directory of a checkpoint, downloading it if `source` is a Hugging Face id.

    Raises:
        CheckpointError: There is no such directory, or the id can't be downloaded.
    """
    directory = Path(source)
    if directory.is_dir():
        return directory
    if not is_hub_id(str(source)):
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
