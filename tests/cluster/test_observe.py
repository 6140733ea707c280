"""site.observe: what Atlas would have done with real jobs is summed up, and they run as if there were no Atlas."""

import json

import datasets
from cluster import USERS, Cluster, Settings, wait_for
from datasets import warm

SETTINGS = Settings(nodes=2, atlas_extra="[site]\nobserve = true\n")
FIRST = USERS[0]
LOOK = r"""
echo "state=[$ATLAS_CACHE_STATE] root=[$ATLAS_ROOT] mounts=$(grep -c atlas /proc/self/mountinfo)"
cat {root}/d0000/f000000 | md5sum
"""


def observed(cluster: Cluster, jobs: int) -> dict:
    """The sums of the only account there is here, once so many jobs are in them."""
    def there() -> dict | None:
        reply = cluster.atlasctl("observed")
        assert reply["observing"] is True
        return next((row for row in reply["accounts"] if row["jobs"] == jobs), None)
    return wait_for(there, 30, f"{jobs} jobs are summed up", 0.2)


def untouched(cluster: Cluster, job: int | str, plain: str) -> None:
    """It ran as the plain job did, for all that Slurm's record, its own view of the node and its output say."""
    fields = cluster.wait_done(job)
    assert fields["ReqNodeList"] == "(null)" and "BurstBuffer" not in fields and "Comment" not in fields, fields
    assert cluster.job_output(job) == plain


def test_jobs_run_as_without_atlas_and_are_summed_up(cluster: Cluster) -> None:
    root = cluster.origin / "speech"
    size = datasets.small_files(root, 20, 50_000)
    script = LOOK.format(root=root)
    without = cluster.submit(script)
    cluster.wait_done(without)
    plain = cluster.job_output(without)
    assert "state=[] root=[]" in plain
    first = cluster.submit(script, *warm(root))
    untouched(cluster, first, plain)
    seen = observed(cluster, 1)
    assert (seen["bytes"], seen["held_bytes"]) == (size, 0)
    second = cluster.submit(script, *warm(root))
    untouched(cluster, second, plain)
    assert cluster.job(second)["NodeList"] == cluster.job(first)["NodeList"], "Slurm takes the same node when all are free"
    seen = observed(cluster, 2)
    assert (seen["bytes"], seen["held_bytes"]) == (2 * size, size), "the first would have brought it"
    array = cluster.submit(script, "--array=1-3", *warm(root), "--atlas-on-change=fail")
    for task in (1, 2, 3):
        untouched(cluster, f"{array}_{task}", plain)
    assert observed(cluster, 3)["since"] > 0

    assert cluster.atlasctl("placement") == [], "nothing lies on a node"
    assert cluster.atlasctl("job", "list", "--all") == []
    log = (cluster.log_dir / "controller.stderr").read_text()
    assert f"job {second} ({FIRST}, account ) was only looked at. Atlas: " in log and "Slurm: started after" in log


def test_a_job_that_queues_is_not_held_back(cluster: Cluster) -> None:
    root = cluster.origin / "noise"
    datasets.small_files(root, 5, 1000)
    before = cluster.atlasctl("observed")["accounts"]
    blocker = cluster.submit("sleep 5", "-N2", "--exclusive")
    cluster.wait_state(blocker, "RUNNING")
    job = cluster.submit("true", *warm(root))
    fields = cluster.wait_state(job, "PENDING")
    assert fields["Reason"] in ("Resources", "Priority", "None"), fields
    cluster.wait_done(job)
    assert observed(cluster, sum(row["jobs"] for row in before) + 1)["waited"] >= 1


def test_who_may_ask_and_what_he_is_shown(cluster: Cluster) -> None:
    refused = cluster.run("atlasctl", "observed", user=FIRST)
    assert refused.code != 0 and "operators" in refused.err
    shown = cluster.run("atlasctl", "observed").check().out
    assert "SAME NODES" in shown or "no job" in shown
    assert "site.observe" in [check["check"] for check in json.loads(cluster.run("atlasctl", "doctor", "--json").out)]
