"""Models on the Hugging Face Hub: weights, configuration and a card, in plain files.

    model → config.json, model.safetensors, result.json, README.md → the Hub
    the Hub, such a folder, or the folder of a run → model

config.json and result.json are those of the run that the model is of. The card is
written from them. Nothing is ever pickled.
"""

import hashlib
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from torch import Tensor, device, nn, uint8

from nacs.errors import UserError

__all__ = ["HubModel"]

CONFIG, WEIGHTS, RESULT, CARD = FILES = (
    "config.json",
    "model.safetensors",
    "result.json",
    "README.md",
)


class HubModel(nn.Module):
    """A model with `save_pretrained`, `from_pretrained` and `push_to_hub`."""

    config: Any
    """Sizes and options, a dataclass."""

    origin: dict[str, Any] | None = None
    """What is known of the run the model is of: `config`, `result`, and a digest of its
    weights, so that its figures are never told of other weights."""

    def save_pretrained(self, folder: str | Path) -> None:
        """Leave the model and its card where `from_pretrained` finds them.

        Args:
            folder: Made where it is not there; the files are replaced where they are.

        Raises:
            UserError: If the model is frozen, or the folder cannot be written.
        """
        from nacs.card import model_card
        from nacs.runs import save_tensors, write_json, written

        folder, state = Path(folder), self.state_dict()
        if (folder / "checkpoint").exists():
            raise UserError(f"{folder}: is the folder of a run; give another.")
        config, result = _told(self, state)
        save_tensors(folder / WEIGHTS, state)
        write_json(folder / CONFIG, config)
        if result:
            write_json(folder / RESULT, result)
        else:
            (folder / RESULT).unlink(missing_ok=True)
        with written(folder / CARD) as beside:
            beside.write_text(model_card(self, config, result), encoding="utf-8")

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """The model of a folder or of a repository on the Hub, in evaluation mode.

        Args:
            source: The folder of a run or of `save_pretrained`, or a repository,
                "user/name".
            revision: Branch, tag or commit of the repository.
            token: For repositories that are not public.
            cache_dir: Where downloads are kept; the Hub's own place if not given.
            local_files_only: Whether only downloads of before are looked at.

        Raises:
            UserError: If nothing is found there, or it is another kind of model.
        """
        from nacs.runs import load_run, read_json

        folder = Path(source)
        if not folder.is_dir():
            folder = _downloaded(
                str(source),
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
            )
        model, config = load_run(folder)
        if not isinstance(model, cls):
            raise UserError(
                f"{source}: holds the model '{config['model']}', a "
                f"{type(model).__name__}, expected a {cls.__name__}; call "
                f"{type(model).__name__}.from_pretrained."
            )
        result = read_json(folder / RESULT) if (folder / RESULT).exists() else {}
        digest = _digest(model.state_dict())
        model.origin = {"config": config, "result": result, "digest": digest}
        return model

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool = False,
        token: str | None = None,
        message: str = "Upload a model of nacs",
    ) -> str:
        """Upload what `save_pretrained` leaves.

        Args:
            repository: "user/name"; made where it is not there.
            private: Whether a repository that is made is not public.
            token: With the right to write; else that of `hf auth login`.
            message: Of the commit.

        Returns:
            The address of the commit.

        Raises:
            UserError: If the Hub cannot be reached or refuses.
        """
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            api = HfApi(token=token)
            try:
                api.create_repo(repository, private=private, exist_ok=True)
                made = api.upload_folder(
                    repo_id=repository, folder_path=folder, commit_message=message
                )
            except (HfHubHTTPError, HFValidationError, OSError) as error:
                raise UserError(
                    f"{repository}: could not be uploaded ({_first_line(error)})."
                ) from error
        return str(made.commit_url)


def _downloaded(repository: str, **options: Any) -> Path:
    """The files of a model of the Hub, in the Hub's cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        found = snapshot_download(repository, allow_patterns=list(FILES), **options)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UserError(
            f"{repository}: no such folder, and nothing to be had from the Hub "
            f"({_first_line(error)})."
        ) from error
    return Path(found)


def _told(
    model: HubModel, state: dict[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What config.json and result.json say: no figures of a run of other weights."""
    from nacs.models import MODELS

    config: Any = model.config
    name, row = next(
        (name, row)
        for name, row in MODELS.items()
        if row.config is type(config) and getattr(config, "mixer", name) == name
    )
    with device("meta"):
        expected = row.build(config).state_dict()
    if set(state) != set(expected):
        raise UserError(
            "expected a model as it was trained, got one with other tensors; save it "
            "before `freeze`."
        )
    told = {"model": name, "sizes": asdict(config)}
    if model.origin is None:
        return told, {}
    config = model.origin["config"]
    if "data" in config:  # where it lay is nobody's business
        source = Path(config["data"]["source"]).name
        config = config | {"data": config["data"] | {"source": source}}
        told["data"] = config["data"]
    same = model.origin["digest"] == _digest(state)
    return (config, model.origin["result"]) if same else (told, {})


def _digest(state: dict[str, Tensor]) -> str:
    """A name for these weights and no others."""
    digest = hashlib.sha256()
    for name, values in sorted(state.items()):
        digest.update(name.encode())
        flat = values.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(uint8).numpy().data)
    return digest.hexdigest()


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
