"""Single files of a model: from a local folder, or fetched from the Hub."""

from __future__ import annotations

from pathlib import Path

from distill.errors import InputError


def fetch(model: str, name: str, revision: str | None) -> Path | None:
    """A file of a local folder or a Hub repository; None if it does not have that file."""
    folder = Path(model)
    if folder.is_dir():
        path = folder / name
        return path if path.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(model, name, revision=revision))
    except LocalEntryNotFoundError as error:
        raise InputError(
            f"cannot fetch {name} of {model}: the Hub cannot be reached and it is not in the cache",
            fix="check the network or HF_ENDPOINT, or give a local folder",
        ) from error
    except EntryNotFoundError:
        return None
    except (HfHubHTTPError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"cannot fetch {name}: {reason}", where=model, fix="is the name right, and do you have access?"
        ) from error
