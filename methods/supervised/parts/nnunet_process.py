"""nnU-Net in a process of its own: plan, preprocess and train, with its environment variables set there alone.

A process started afresh may have children of its own, which nnU-Net needs, wherever the caller runs: a daemonic worker
may not. It leads a process group, which is killed as a whole when it ends, whoever of its children lives on, and when
the caller ends, because it then reads the end of its standard input.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ...context import TrainingError
from .nnunet_layout import DATASET, DATASET_ID

FOLDERS = ("raw", "preprocessed", "results")
AUGMENTERS = "nnUNet_n_proc_DA"


def train_apart(folder: Path, job: SimpleNamespace, on_epoch: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Train on ``folder/raw`` with the split in ``folder/preprocessed``; nnU-Net's own words go to standard output.

    Args:
        folder: scratch folder; nothing outside it is written.
        job: the settings of :class:`.nnunet.NNUNetConfig`, with ``seed``, ``device``, ``threads`` and ``limit``, the
            most optimiser updates; None sets no limit, 0 keeps the random weights.
        on_epoch: called after each epoch with ``done`` and ``total`` updates, and the losses ``train`` and
            ``training_patient`` (one patient's cases, which train as well).

    Returns:
        ``plans`` and ``dataset``, the plans and the description of the data set (JSON); ``weights``, tensors by name;
        ``mirror_axes``, the axes to mirror at test.

    Raises:
        TrainingError: nnU-Net stopped with an error.
    """
    import torch

    (folder / "job.json").write_text(json.dumps(vars(job)), encoding="utf-8")
    environment = {
        **{f"nnUNet_{name}": str(folder / name) for name in FOLDERS},
        "nnUNet_def_n_proc": str(job.processes),
        AUGMENTERS: str(max(1, job.augmenters)),  # the planner takes it for a number of threads
        "OMP_NUM_THREADS": str(job.threads),
    }
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as reports:
        try:
            child = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", __name__, str(folder), str(writing)],
                cwd=folder,
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                pass_fds=(writing,),
                start_new_session=True,
            )
        finally:
            os.close(writing)
        # Forked children keep the pipe open: without this, reports of a process that died would have no end.
        ending = threading.Thread(target=_end_group_with, args=(child.pid,), daemon=True)
        ending.start()
        error = None
        try:
            for line in reports:
                report = json.loads(line)
                if error := report.get("error"):
                    break
                on_epoch(report)
            ending.join()
        finally:
            os.killpg(child.pid, signal.SIGKILL)
            ending.join()
            child.communicate()
    if child.returncode != 0:
        why = error or _ending(child.returncode)
        raise TrainingError(f"nnU-Net stopped: {why}; its output is in the log of the job")
    return torch.load(folder / "model.pt", weights_only=True)


def _end_group_with(leader: int) -> None:
    """Wait until the leader of a group has ended, then kill the others.

    It is not reaped here: until the caller does so, its number belongs to no other process or group.
    """
    os.waitid(os.P_PID, leader, os.WEXITED | os.WNOWAIT)
    os.killpg(leader, signal.SIGKILL)


def _ending(status: int) -> str:
    hint = "; memory may have run out" if -status == signal.SIGKILL else ""
    return f"exit status {status}" if status >= 0 else f"ended by signal {-status} ({signal.strsignal(-status)}){hint}"


def main() -> None:
    """Be the process: read the job from the folder named first, report on the file descriptor named second."""
    folder, descriptor = Path(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(descriptor, False)
    threading.Thread(target=_end_with_caller, daemon=True).start()
    with os.fdopen(descriptor, "w", encoding="utf-8", buffering=1) as reports:

        def report(values: dict[str, Any]) -> None:
            reports.write(json.dumps(values) + "\n")

        try:
            _train(folder, SimpleNamespace(**json.loads((folder / "job.json").read_text(encoding="utf-8"))), report)
        except Exception as error:
            report({"error": f"{type(error).__name__}: {error}"})
            raise


def _end_with_caller() -> None:
    # Not sys.stdin: a thread that reads it holds its lock, on which every forked child would wait for ever.
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def _train(folder: Path, job: SimpleNamespace, report: Callable[[dict[str, Any]], None]) -> None:
    import torch
    from nnunetv2.experiment_planning import plan_and_preprocess_api as planning  # pyright: ignore[reportMissingImports]
    from nnunetv2.run.run_training import get_trainer_from_args  # pyright: ignore[reportMissingImports]

    from ....common.seeds import seed_everything

    torch.set_num_threads(job.threads)
    seed_everything(job.seed)
    planning.extract_fingerprints([DATASET_ID], num_processes=job.processes, check_dataset_integrity=True)
    plans = planning.plan_experiments([DATASET_ID], job.planner, job.memory_gb)
    if plans is None:
        raise RuntimeError(f"the planner {job.planner} made no plans")
    planning.preprocess([DATASET_ID], plans, (job.configuration,), (job.processes,))
    os.environ[AUGMENTERS] = str(job.augmenters)
    torch.set_num_threads(job.threads)
    seed_everything(job.seed)
    trainer = get_trainer_from_args(
        DATASET, job.configuration, 0, job.trainer, plans, device=torch.device(job.device.split(":")[0])
    )
    _run(trainer, job, report)
    network = getattr(trainer.network, "_orig_mod", trainer.network)
    preprocessed = folder / "preprocessed" / DATASET
    torch.save(
        {
            "plans": (preprocessed / f"{plans}.json").read_text(encoding="utf-8"),
            "dataset": (preprocessed / "dataset.json").read_text(encoding="utf-8"),
            "weights": {name: value.detach().cpu() for name, value in network.state_dict().items()},
            "mirror_axes": tuple(int(axis) for axis in trainer.inference_allowed_mirroring_axes or ()),
        },
        folder / "model.pt",
    )


def _run(trainer: Any, job: SimpleNamespace, report: Callable[[dict[str, Any]], None]) -> None:
    """Train within the limit, or only initialise; the last weights are kept, so nnU-Net writes no checkpoint."""
    wanted = (trainer.num_epochs if job.epochs is None else job.epochs) * job.iterations
    limit = wanted if job.limit is None else min(job.limit, wanted)
    trainer.disable_checkpointing = True
    if limit == 0:
        trainer.initialize()
        trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        return
    trainer.num_iterations_per_epoch = min(job.iterations, limit)
    trainer.num_val_iterations_per_epoch = job.validation_iterations
    trainer.num_epochs = limit // trainer.num_iterations_per_epoch
    end_epoch = trainer.on_epoch_end

    def on_epoch_end() -> None:
        end_epoch()
        report(
            {
                "done": trainer.current_epoch * trainer.num_iterations_per_epoch,
                "total": trainer.num_epochs * trainer.num_iterations_per_epoch,
                "train": float(trainer.logger.get_value("train_losses", step=-1)),
                "training_patient": float(trainer.logger.get_value("val_losses", step=-1)),
            }
        )

    trainer.on_epoch_end = on_epoch_end
    trainer.run_training()


if __name__ == "__main__":
    main()
