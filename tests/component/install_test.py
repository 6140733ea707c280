#!/usr/bin/env python3
"""What `cmake --install` puts where, and that the installed pieces fit together. install_test.py BUILD_DIR"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(sys.argv.pop())
PROGRAMS = ["bin/atlas-submit", "bin/atlasctl", "bin/atlas-sim", "sbin/atlas-controller", "sbin/atlas-cache-agent", "sbin/atlas-view-holder", "sbin/atlas-enter",
            "libexec/atlas/atlas-stage", "libexec/atlas/atlas-attach"]
LUA = ["share/lua/5.1/atlas_submit.lua", "share/lua/5.1/atlas_stage.lua", "share/lua/5.1/atlas_paths.lua"]
UNITS = [f"lib/systemd/system/atlas-{name}.service" for name in ("controller", "cache-agent", "view-holder")]
OTHERS = ["lib/sysusers.d/atlas.conf", "lib/tmpfiles.d/atlas.conf"]
EXAMPLES = ["atlas.toml", "job_submit.lua", "burst_buffer.lua", "burst_buffer.conf", "plugstack.conf"]
# Directives of systemd.exec(5) that give a service a mount namespace of its own.
MOUNT_NAMESPACE = re.compile(r"^(Protect(System|Home|KernelTunables|KernelModules|KernelLogs|ControlGroups|Proc|Hostname)|ProcSubset|"
                             r"Private(Tmp|Devices|IPC)|(ReadOnly|ReadWrite|Inaccessible|Exec|NoExec)Paths|Bind(ReadOnly)?Paths|"
                             r"TemporaryFileSystem|Root(Directory|Image)|MountImages|ExtensionImages|MountAPIVFS|DynamicUser|"
                             r"(Runtime|State|Cache|Logs)Directory|LoadCredential|MountFlags)=")


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.directory = tempfile.TemporaryDirectory()
        cls.root = pathlib.Path(cls.directory.name)
        subprocess.run(["cmake", "--install", BUILD], env=os.environ | {"DESTDIR": str(cls.root)}, check=True, capture_output=True)
        (stage,) = cls.root.rglob("atlas-stage")
        cls.prefix = stage.parents[2]

    @classmethod
    def tearDownClass(cls) -> None:
        cls.directory.cleanup()

    def text(self, name: str) -> str:
        return (self.prefix / name).read_text()

    def test_everything_is_there(self) -> None:
        for name in PROGRAMS:
            self.assertTrue(os.access(self.prefix / name, os.X_OK), name)
        for name in LUA + UNITS + OTHERS + [f"share/doc/atlas/examples/{name}" for name in EXAMPLES]:
            self.assertTrue((self.prefix / name).is_file(), name)
        self.assertEqual(len(list(self.prefix.rglob("spank_atlas.so"))), 1)

    def test_installed_lua_points_at_the_installed_programs(self) -> None:
        done = subprocess.run(["lua5.1", "-e", "print(require('atlas_paths').libexec)"], capture_output=True, text=True, check=True,
                              env={"PATH": os.environ["PATH"], "LUA_PATH": f"{self.prefix}/share/lua/5.1/?.lua"})
        libexec = self.root / done.stdout.strip().lstrip("/")
        self.assertTrue((libexec / "atlas-stage").is_file(), done.stdout)

    def test_plugstack_names_the_installed_plugin(self) -> None:
        line = self.text("share/doc/atlas/examples/plugstack.conf").splitlines()[-1]
        required, plugin, _ = line.split()
        self.assertEqual(required, "optional")
        self.assertTrue((self.root / plugin.lstrip("/")).is_file(), plugin)

    def test_units_start_the_installed_programs_and_wait_until_they_serve(self) -> None:
        for unit in UNITS:
            text = self.text(unit)
            program = re.search(r"^ExecStart=(\S+)", text, re.M)[1]
            self.assertTrue((self.root / program.lstrip("/")).is_file(), program)
            self.assertIn("Type=notify\n", text)
            self.assertNotIn("@", re.sub(r"(?m)^#.*", "", text))

    def test_the_units_of_a_node_hide_no_mount_of_it(self) -> None:
        for unit in UNITS[:0:-1]:
            lines = self.text(unit).splitlines()
            self.assertEqual([line for line in lines if MOUNT_NAMESPACE.match(line)], [], unit)
            self.assertIn("PrivateMounts=no", lines, unit)
        lines = self.text("lib/systemd/system/atlas-cache-agent.service").splitlines()
        capabilities = {word for line in lines if line.startswith("CapabilityBoundingSet=") for word in line.partition("=")[2].split()}
        self.assertIn("CAP_SYS_ADMIN", capabilities)
        self.assertNotIn("CAP_SYS_MODULE", capabilities)

    def test_the_sample_configuration_is_accepted_by_both_daemons(self) -> None:
        for program in ("sbin/atlas-controller", "sbin/atlas-cache-agent"):
            done = subprocess.run([self.prefix / program, "--config", self.prefix / "share/doc/atlas/examples/atlas.toml", "--check-config"],
                                  capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
