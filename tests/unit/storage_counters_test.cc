// Samples are as Linux 6.18 (proc, sysfs, cgroups), nfs4 with statvers 1.1 and Lustre 2.12 clients write them; those of
// NFS and Lustre follow what monitoring programs publish with their own tests.
#include "cache-agent/job_io/storage_counters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace atlas::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

constexpr std::string_view kMountstats =
    R"(device rootfs mounted on / with fstype rootfs
device proc mounted on /proc with fstype proc
device /dev/sda1 mounted on /boot with fstype ext4
device 10.0.0.9:/other mounted on /data/other with fstype nfs statvers=1.1
	opts:	rw,vers=3,rsize=1048576,wsize=1048576,namlen=255,hard,proto=tcp,timeo=600,retrans=2,sec=sys,local_lock=none
	age:	52
	events:	1 2 0 0 1 13 39 0 0 3 0 4 0 0 7 0 0 7 0 0 0 0 0 0 0 0 0
	bytes:	10 20 0 0 30 40 1 1
	RPC iostats version: 1.1  p/v: 100003/3 (nfs)
	per-op statistics
	        NULL: 1 1 0 44 24 0 0 0 0
	        READ: 3 3 0 480 400 0 1 1 0
device 192.168.1.1:/srv/test mounted on /mnt/my\040data with fstype nfs4 statvers=1.1
	opts:	rw,vers=4.0,rsize=1048576,wsize=1048576,namlen=255,acregmin=3,acregmax=60,acdirmin=30,acdirmax=60,hard,proto=tcp,port=0,timeo=600,retrans=2,sec=sys,mountaddr=192.168.1.1,clientaddr=192.168.1.5,local_lock=none
	age:	13968
	caps:	caps=0xfff7,wtmult=512,dtsize=32768,bsize=0,namlen=255
	nfsv4:	bm0=0xfdffafff,bm1=0xf9be3e,bm2=0x0,acl=0x0,pnfs=not configured
	sec:	flavor=1,pseudoflavor=1
	events:	52 226 0 0 1 13 398 0 0 331 0 47 0 0 77 0 0 77 0 0 0 0 0 0 0 0 0
	bytes:	1207640230 0 0 0 1210214218 0 295483 0
	RPC iostats version: 1.0  p/v: 100003/4 (nfs)
	xprt:	tcp 832 0 1 0 11 6428 6428 0 12154 0 24 26 5726
	per-op statistics
	        NULL: 0 0 0 0 0 0 0 0
	        READ: 1298 1298 0 207680 1210292152 6 79386 79407
	       WRITE: 0 0 0 0 0 0 0 0
	     READDIR: 9 9 0 1 2 3 4 5
)";

TEST(StorageCounters, NfsTellsWhatCameFromTheServerOfEachMount) {
  const auto reads = nfs_reads(kMountstats, "/mnt/my data");
  ASSERT_TRUE(reads);
  EXPECT_EQ(reads->bytes, 1210214218U) << "what came from the server, not what programs have read";
  EXPECT_EQ(reads->operations, 1298U);
  EXPECT_EQ(nfs_reads(kMountstats, "/data/other")->bytes, 30U);
}

TEST(StorageCounters, OfTwoNfsMountsAtOnePlaceTheUpperOneCounts) {
  const auto reads = nfs_reads(std::string(kMountstats) +
                                   "device 10.0.0.9:/new mounted on /data/other with fstype nfs4 statvers=1.1\n"
                                   "\tbytes:\t1 2 3 4 5 6 7 8\n\tREAD: 9 9 0 0 0 0 0 0 0\n",
                               "/data/other");
  ASSERT_TRUE(reads);
  EXPECT_EQ(reads->bytes, 5U);
  EXPECT_EQ(reads->operations, 9U);
}

TEST(StorageCounters, WhatIsCutOffOrNotNfsGivesNoAnswer) {
  EXPECT_FALSE(nfs_reads(kMountstats, "/boot"));
  EXPECT_FALSE(nfs_reads(kMountstats, "/mnt"));
  EXPECT_FALSE(nfs_reads("", "/mnt"));
  const auto at = kMountstats.find("1210214218");
  for (std::size_t cut = at + 1; cut < kMountstats.find("READ: 1298") + 11; ++cut)
    EXPECT_FALSE(nfs_reads(kMountstats.substr(0, cut), "/mnt/my data")) << cut;
  EXPECT_FALSE(
      nfs_reads("device a:/b mounted on /c with fstype nfs statvers=1.1\n bytes: 1 2 3 4 -5 6\n READ: 1\n", "/c"));
  EXPECT_FALSE(nfs_reads("device a:/b mounted on /c with fstype nfs statvers=1.1\n bytes: 1 2 3\n READ: 1\n", "/c"));
}

constexpr std::string_view kOsc = R"(snapshot_time             1315506558.236162 secs.usecs
req_waittime              2193784 samples [usec] 31 19323671 22792548119 2825876578353643
req_active                2193784 samples [reqs] 1 19 4197043 17147705
read_bytes                591036 samples [bytes] 4096 1048576 452705124352 458909478532677632
write_bytes               298332 samples [bytes] 1 1048576 249338619646 258272714735050642
ost_read                  591567 samples [usec] 58 2298702 10257217364 690745503006198
)";

TEST(StorageCounters, ALustreClientTellsWhatItHasReadOfATarget) {
  const auto reads = lustre_reads(kOsc);
  ASSERT_TRUE(reads);
  EXPECT_EQ(reads->bytes, 452705124352U);
  EXPECT_EQ(reads->operations, 591036U);
  const auto nothing = lustre_reads("snapshot_time             1523008010.817348638 secs.nsecs\n");
  ASSERT_TRUE(nothing) << "of what it has not read from yet";
  EXPECT_EQ(nothing->bytes, 0U);
  EXPECT_FALSE(lustre_reads(""));
  EXPECT_FALSE(lustre_reads("snapshot_time 1 secs.usecs\nread_bytes 12 samples [bytes] 4096\n"));
  EXPECT_FALSE(lustre_reads("snapshot_time 1 secs.usecs\nread_bytes 12 samples [usec] 1 2 3 4\n"));
}

TEST(StorageCounters, ALustreFileSystemIsNamedByItsMountsSource) {
  EXPECT_EQ(lustre_name("10.0.0.1@tcp:/work"), "work");
  EXPECT_EQ(lustre_name("10.0.0.1@o2ib,10.0.0.2@o2ib:10.0.0.3@o2ib:/scratch/projects"), "scratch");
  EXPECT_EQ(lustre_name("/dev/sda1"), "");
}

TEST(StorageCounters, ADiskTellsItsSectors) {
  const auto reads = block_reads(
      " 2436474  1080997 929549324  3235453  4321926  3731865 1788569736 13007746        0  2078616 17580482  2995596"
      "      251 1571894736  1278784   618443    58497\n");
  ASSERT_TRUE(reads);
  EXPECT_EQ(reads->bytes, 929549324ULL * 512);
  EXPECT_EQ(reads->operations, 2436474U);
  EXPECT_FALSE(block_reads(""));
  EXPECT_FALSE(block_reads("1 2 3\n"));
  EXPECT_FALSE(block_reads("1 2 x 4 5 6 7 8 9 10 11\n"));
}

TEST(StorageCounters, AProcessTellsWhatWasFetchedForIt) {
  EXPECT_EQ(process_reads("rchar: 323934931\nwchar: 323929600\nsyscr: 632687\nsyscw: 632675\nread_bytes: 86016\n"
                          "write_bytes: 323932160\ncancelled_write_bytes: 0\n"),
            86016U);
  EXPECT_FALSE(process_reads("rchar: 1\nread_bytes: 86"));
  EXPECT_FALSE(process_reads(""));
  EXPECT_FALSE(process_reads("read_bytes: many\n"));
}

TEST(StorageCounters, CgroupsTellReadsByDisk) {
  EXPECT_THAT(reads_by_disk("7:0 Read 6291456\n7:0 Write 0\n7:0 Sync 6291456\n7:0 Async 0\n7:0 Discard 0\n"
                            "7:0 Total 6291456\n254:0 Read 4096\n254:0 Total 4096\nTotal 6295552\n"),
              ElementsAre(Pair("254:0", 4096U), Pair("7:0", 6291456U)));
  EXPECT_THAT(
      reads_by_disk("259:0 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n"
                    "8:16 \n8:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=50331648 dios=3021\n"),
      ElementsAre(Pair("259:0", 1459200U), Pair("8:0", 90430464U)));
  EXPECT_THAT(reads_by_disk("7:0 Read 62914"), IsEmpty());
  EXPECT_THAT(reads_by_disk("rubbish\n7:0 Read x\n"), IsEmpty());
}

}  // namespace
}  // namespace atlas::agent
