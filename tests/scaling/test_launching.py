import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cookbook.scaling import job, launching
from cookbook.scaling.launching import launch, run, torchrun
from cookbook.scaling.world import RanksError

SCRIPTS = Path(__file__).resolve().parents[2] / "notebooks" / "launch"
NAMES = ["local.sh", "slurm.sbatch", "kubernetes.yaml", "skypilot.yaml"]


def shell_of(name):
    """The shell program in a launch script."""
    text = (SCRIPTS / name).read_text()
    if name == "kubernetes.yaml":
        _, kubernetes = yaml.safe_load_all(text)
        (container,) = kubernetes["spec"]["template"]["spec"]["containers"]
        return container["args"][0]
    return yaml.safe_load(text)["run"] if name == "skypilot.yaml" else text


def torchrun_of(name):
    """The words of the call of torchrun, without what stands before it (srun)."""
    (line,) = re.findall(r"^.*\btorchrun (.*)$", shell_of(name).replace("\\\n", " "), re.MULTILINE)
    return shlex.split(line)


@pytest.mark.parametrize("name", NAMES)
def test_the_scripts_differ_from_the_local_call_by_the_launcher_alone(name):
    def called(name):
        words = torchrun_of(name)
        return words[words.index("-m") + 1 :]

    assert called(name) == called("local.sh")
    module, *options = called(name)
    assert module == job.__spec__.name
    assert job.parse(options)["not_finite"] == "skip"  # every option is one of the job's


@pytest.mark.parametrize("name", NAMES)
def test_torchrun_understands_them(name):
    from torch.distributed.run import get_args_parser

    words = [re.sub(r"\$\{?SLURM_NNODES\}?|\$\{?SKYPILOT_NUM_NODES\}?", "4", word)
             for word in torchrun_of(name)]  # fmt: skip
    given = get_args_parser().parse_args(words)
    assert given.max_restarts == 3 and given.module
    if name == "local.sh":
        assert given.standalone
    else:
        assert (given.nnodes, given.nproc_per_node, given.rdzv_backend) == ("4", "gpu", "c10d")
        assert given.rdzv_endpoint.endswith(":29500") and given.rdzv_id


@pytest.mark.parametrize("name", NAMES)
def test_bash_understands_them(name):
    checked = subprocess.run(["bash", "-n"], input=shell_of(name), text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr


def test_a_job_on_kubernetes_has_one_pod_for_each_node():
    service, kubernetes = yaml.safe_load_all((SCRIPTS / "kubernetes.yaml").read_text())
    spec = kubernetes["spec"]
    assert spec["completions"] == spec["parallelism"] == 4 and spec["completionMode"] == "Indexed"
    assert spec["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    assert "cookbook-0.cookbook:29500" in shell_of("kubernetes.yaml")


def test_lines_are_passed_on_as_they_come_and_the_result_is_returned():
    lines = []
    program = f"print('one'); print('{launching.RESULT}[1, 2]'); print('two')"
    assert run([sys.executable, "-c", program], lines.append) == [1, 2]
    assert lines == ["one", "two"]


def test_a_failure_says_its_reason():
    program = "raise ValueError('the rows are gone')"
    with pytest.raises(RanksError, match="ValueError: the rows are gone"):
        run([sys.executable, "-c", program])
    with pytest.raises(RanksError, match="ended with code 3"):
        run([sys.executable, "-c", "raise SystemExit(3)"])


def test_the_command_is_the_one_that_one_would_type():
    command = torchrun(job.options({"rows": "r.npz"}), ranks=2, max_restarts=1)
    assert command[0] == sys.executable
    assert shlex.join(command[3:]) == (
        "--standalone --nproc-per-node 2 --max-restarts 1 -m cookbook.scaling.job --rows r.npz"
    )


def test_a_program_in_no_file():
    with pytest.raises((ValueError, FileNotFoundError)):
        launching.resolve("nowhere.py:main")


@pytest.mark.ranks
def test_dead_ranks_are_started_again(programs, tmp_path):
    lines = []
    found = launch(
        f"{programs[1]}:attempt", {"folder": str(tmp_path)}, ranks=2, max_restarts=2,
        echo=lines.append,
    )  # fmt: skip
    assert found == [{"attempt": 2, "sum": [2.0]}] * 2
    assert {"rank 0 is here", "rank 1 is here"} == set(lines)


@pytest.mark.ranks
def test_or_not_more_often_than_allowed(programs, tmp_path):
    with pytest.raises(RanksError):
        launch(f"{programs[1]}:attempt", {"folder": str(tmp_path)}, ranks=2, max_restarts=0)


@pytest.mark.ranks
def test_from_a_notebook_and_by_torchrun_the_weights_are_the_same(
    two_ranks, ranks_folder, programs
):
    options = programs[0]["options"](ranks_folder, ranks=2, output=str(ranks_folder / "typed"))
    lines = []
    run(torchrun(job.options(options), ranks=2), lines.append)
    mark = two_ranks[0]["ddp"]["fingerprint"][:12]
    assert [line.split(", loss")[0] for line in lines] == ["2 ranks, attempt 0, 5 steps"]
    assert lines[0].endswith(f"weights {mark}")
