"""Look at a run: everything the explorer shows of it, as JSON."""

from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from nacs.attentive import AttentiveCircuit
from nacs.attentive.circuit import CircuitDesign, Modules
from nacs.attentive.links import importance
from nacs.data.again import own_data
from nacs.data.base import Dataset
from nacs.errors import UserError
from nacs.models import count_parameters
from nacs.runs import facts_of, load_run, read_json, read_metrics
from nacs.view.circuits import circuits_part, designs
from nacs.view.graph import ReadOuts, graph_part
from nacs.view.matrices import matrix_part
from nacs.view.neuronal import layers_of, neuronal_part
from nacs.view.sample import check_sample, sample_part
from nacs.view.surgery import Surgeon

__all__ = ["Viewed"]


class Viewed:
    """A run being looked at; one question at a time.

    Args:
        folder: Of the run.
        beside: Runs whose training curves are shown with it.
        samples: How much of the test split surgery is measured on.

    Raises:
        UserError: If the folder is none of a run, or its checkpoint is broken.
    """

    def __init__(
        self, folder: Path, *, beside: tuple[Path, ...] = (), samples: int = 256
    ) -> None:
        if samples < 1:
            raise UserError(f"--samples must be at least 1, got {samples}.")
        self.folder, self.beside, self.samples = folder, beside, samples
        self.model, self.config = load_run(folder)
        for other in beside:
            read_json(other / "config.json")
        self._lock = RLock()

    @cached_property
    def dataset(self) -> Dataset:
        """The data the run was trained on.

        Raises:
            UserError: If it is not there any more.
        """
        facts = facts_of(self.config)
        return own_data(facts)

    @cached_property
    def surgeon(self) -> Surgeon:
        """Who measures smaller circuits.

        Raises:
            UserError: If the model has no modules to drop, or its data is gone.
        """
        if not isinstance(self.model, AttentiveCircuit):
            raise UserError(
                f"only attentive circuits have modules to drop, this is a "
                f"{self.config['model']}."
            )
        test = self.dataset.test
        # Drawn, because a split may be sorted by class.
        drawn = np.random.default_rng(0).permutation(len(test))[: self.samples]
        return Surgeon(self.folder, self.model, test.take(drawn))

    def document(self) -> dict[str, Any]:
        """What the page needs at once: figures, graph, matrices, training curves."""
        with self._lock:
            figures: dict[str, Any] = {"parameters": count_parameters(self.model)}
            result = self.folder / "result.json"
            told = read_json(result) if result.exists() else {}
            figures |= {k: v for k, v in told.items() if _is_figure(k, v)}
            return {
                "run": self.folder.resolve().name,
                "model": self.config["model"],
                "sizes": self.config["sizes"],
                "figures": figures,
                "training": self.metrics(),
                "data": self._data(),
                "layers": len(layers_of(self.model)),
                **self._first,
            }

    def metrics(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of `metrics.jsonl` by run, read again at every call."""
        folders = (self.folder, *self.beside)
        names = [folder.resolve().name for folder in folders]
        if len(set(names)) < len(names):
            names = [str(folder) for folder in folders]
        rows = [read_metrics(folder / "metrics.jsonl") for folder in folders]
        return dict(zip(names, rows, strict=True))

    def curves(self) -> dict[str, Any]:
        """What goes with modules and with edges; see `Surgeon.curves`."""
        with self._lock:
            return self.surgeon.curves()

    def measure(self, modules: float, edges: float) -> dict[str, Any]:
        """Figures of the circuit without these shares of modules and edges."""
        with self._lock:
            return self.surgeon.measure(modules, edges)

    def sample(self, index: int) -> dict[str, Any]:
        """What the model does with one sample of the test split."""
        with self._lock:
            return sample_part(self.model, self.dataset, index)

    def neuronal(self, index: int, layer: int) -> dict[str, Any]:
        """What one neuronal layer does with one sample of the test split."""
        with self._lock:
            if not layers_of(self.model):
                raise UserError(f"a {self.config['model']} has no neuronal layer.")
            return neuronal_part(self.model, self.dataset, index, layer)

    def graph(self, index: int) -> dict[str, Any]:
        """The graph of one sample, where every sample has one of its own."""
        with self._lock:
            return self._circuit(index)

    def circuits(self) -> dict[str, Any]:
        """A map of the circuits that test samples have; see `circuits_part`."""
        with self._lock:
            return circuits_part(self.model, self.dataset)

    def _data(self) -> dict[str, Any]:
        facts = facts_of(self.config)
        return {
            "source": facts.source,
            "kind": facts.kind,
            "classes": list(facts.classes),
            "columns": list(facts.columns),
        }

    @cached_property
    def _first(self) -> dict[str, Any]:
        return self._circuit()

    @torch.no_grad()
    def _circuit(self, index: int = 0) -> dict[str, Any]:
        """Graph and matrices, if the model has a learned graph."""
        model = self.model
        if not isinstance(model, AttentiveCircuit) or model.config.graph == "complete":
            return {"graph": None, "matrix": None}
        design = self._design(model, index)
        links = model.links(design)
        heard = torch.ones_like(links, dtype=torch.bool)
        heard = heard if design.edges is None else design.edges
        processors = design.processors
        assert processors.signatures is not None
        graph = graph_part(
            _array(links),
            heard.cpu().numpy(),
            _array(importance(links)),
            _array(processors.signatures),
            codes=None if processors.codes is None else _array(processors.codes),
            readouts=_readouts(model, design),
        )
        graph |= {
            "conditional": model.config.generator == "conditional",
            "edges_removed": model.config.edges_removed,
            "outputs": model.config.outputs,
        }
        return {"graph": graph, "matrix": matrix_part(model, _array(links), design)}

    def _design(self, model: AttentiveCircuit, index: int) -> CircuitDesign:
        """The circuit, or that of one sample; without a batch axis."""
        if model.config.generator != "conditional":
            return model.design()
        check_sample(self.dataset, index)
        design = designs(model, self.dataset.test, [index])
        return CircuitDesign(
            *(_first(each) for each in design[:3]),
            edges=None if design.edges is None else design.edges[0],
        )


def _first(modules: Modules) -> Modules:
    """The first sample's, where there is a batch axis."""
    return Modules(
        *(None if m is None else m[0] if m.ndim == 3 else m for m in modules)  # pyright: ignore[reportArgumentType]
    )


def _array(values: Tensor) -> ndarray:
    return values.double().cpu().numpy()


def _readouts(model: AttentiveCircuit, design: CircuitDesign) -> ReadOuts | None:
    """Whom the read-outs may hear, if that is learned."""
    links, own = model.read_out.attention.links, design.outputs.signatures
    heard = design.processors.signatures
    if links is None or own is None or heard is None:
        return None
    probabilities = links.log_probabilities(own, heard).exp()
    return ReadOuts(_array(probabilities), _array(own))


def _is_figure(name: str, value: Any) -> bool:
    """Whether a row of `result.json` is a number worth showing."""
    shown = name.startswith(("test_", "density", "prior_density"))
    return shown and isinstance(value, int | float)
