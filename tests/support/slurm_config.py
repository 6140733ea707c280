"""The configuration files of a test cluster, as text."""

TUNED_SCHEDULER = (
    "bf_interval=2,sched_interval=5,batch_sched_delay=0,ignore_prefer_validation,bb_array_stage_cnt=64"
)


def slurm_conf(*, state: str, controller: str, address: str, nodes: dict[str, dict], default_scheduler: bool,
               lua_submit: bool, burst_buffer: bool, extra: str = "") -> str:
    lines = [
        "ClusterName=atlastest",
        f"SlurmctldHost={controller}({address})",
        "SlurmUser=slurm",
        "SlurmdUser=root",
        "AuthType=auth/munge",
        "CredType=cred/munge",
        f"StateSaveLocation={state}/slurmctld",
        f"SlurmdSpoolDir={state}/nodes/%n/spool",
        "SlurmdPidFile=/run/slurmd.pid",
        f"SlurmctldPidFile={state}/slurmctld/slurmctld.pid",
        f"SlurmctldLogFile={state}/log/slurmctld.log",
        f"SlurmdLogFile={state}/log/slurmd-%n.log",
        f"PlugStackConfig={state}/etc/plugstack.conf",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "JobAcctGatherType=jobacct_gather/none",
        "AccountingStorageType=accounting_storage/none",
        "MpiDefault=none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_CPU",
        "SchedulerType=sched/backfill",
        "PriorityType=priority/multifactor",
        "ReturnToService=2",
        "SlurmdTimeout=60",
        "SlurmctldTimeout=10",
        "KillWait=2",
        "MinJobAge=600",
        "MailProg=/bin/true",
        "SlurmdParameters=config_overrides",
        "SlurmctldDebug=verbose",
        "SlurmdDebug=verbose",
        "MaxArraySize=1001",
        "PropagateResourceLimits=NONE",
    ]
    if not default_scheduler:
        lines.append(f"SchedulerParameters={TUNED_SCHEDULER}")
    if lua_submit:
        lines.append("JobSubmitPlugins=lua")
    if burst_buffer:
        lines.append("BurstBufferType=burst_buffer/lua")
        lines.append("DebugFlags=BurstBuffer")
    lines += extra.splitlines()
    for name, node in nodes.items():
        lines.append(f"NodeName={name} NodeAddr={node['address']} CPUs={node['cpus']} RealMemory=4000 State=UNKNOWN")
    lines.append("PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=10 State=UP")
    return "\n".join(lines) + "\n"


def cgroup_conf(version: tuple[int, int], used: bool) -> str:
    """Where slurm.conf uses no cgroups 22.05 makes none; 24.11 does unless it is told not to."""
    if version < (24, 11):
        return "CgroupAutomount=no\n"
    return "" if used else "CgroupPlugin=disabled\n"


def hosts(controller: str, address: str, nodes: dict[str, dict]) -> str:
    lines = ["127.0.0.1 localhost", f"{address} {controller}"]
    return "\n".join(lines + [f"{node['address']} {name}" for name, node in nodes.items()]) + "\n"


def toml_string(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def atlas_toml(*, state: str, address: str, origin: str, quota: str, extra: str = "", agent_extra: str = "",
               controller_extra: str = "", second_origin: str = "") -> str:
    """Production defaults wherever a node of the cluster looks like a real one: its own /run, address and ports."""
    if second_origin:
        extra = f'\n[[origin]]\nname = "scratch"\nroot = {toml_string(second_origin)}\n' + extra
    return f"""[controller]
host = "{address}"
database = "{state}/controller/catalog.db"
log_level = "debug"
{controller_extra}

[agent]
log_level = "debug"
{agent_extra}

[[origin]]
name = "lustre"
root = {toml_string(origin)}

[[tier]]
name = "nvme"
path = "{state}/nodes/%n/store"
quota = "{quota}"
{extra}"""
