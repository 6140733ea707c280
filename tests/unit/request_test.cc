#include "common/request.h"

#include <gtest/gtest.h>

namespace atlas {
namespace {

Request full() {
  Request r;
  r.datasets = {"/lustre/speech", "~bob/noise", std::string("/l/a b\n%'\"$(x);\xff", 15)};
  r.cache = Bytes{200ULL << 30};
  r.warm = WarmMode::wait;
  r.locality = Locality{0.9, std::chrono::seconds(600)};
  r.on_change = OnChange::fail;
  r.read_write = {"~bob/noise"};
  r.io_limit = IoLimit{Bytes{500ULL << 20}, 2000};
  return r;
}

TEST(RequestCodec, ComesBackAsItWas) {
  const auto text = encode(full());
  ASSERT_TRUE(text);
  EXPECT_EQ(text->find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/,=@%-"),
            std::string::npos);
  const auto back = decode_request(*text);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(*back, full());
}

TEST(Options, AnIoLimitIsBytesOrOperationsOrBoth) {
  const auto limit = [](const char* text) {
    const auto parsed = parse_io_limit_option(text);
    return parsed ? show(*parsed) : "refused";
  };
  EXPECT_EQ(limit("500M"), "500M");
  EXPECT_EQ(limit("500M/s"), "500M");
  EXPECT_EQ(limit("1.5G,2000"), "1536M,2000");
  EXPECT_EQ(limit(",2000"), ",2000");
  for (const auto* bad : {"", ",", "0", "-1", "0,5", "500M,0", "500M,-1", "500M,x", "500M,2000,1", "500M,", "9999P"})
    EXPECT_EQ(limit(bad), "refused") << bad;
  for (const auto text : {"500M", "500M,2000", ",2000"}) {
    Request request;
    request.datasets = {"/a"};
    request.io_limit = *parse_io_limit_option(text);
    EXPECT_EQ(decode_request(*encode(request)), request) << text;
  }
}

TEST(Options, ADatasetIsReadOnlyUnlessTheUserSaysOtherwise) {
  const auto asked = [](const char* text) {
    const auto parsed = parse_asked_dataset(text);
    return parsed ? parsed->dataset + (parsed->read_write ? " rw" : "") : "refused";
  };
  EXPECT_EQ(asked("/l/a"), "/l/a");
  EXPECT_EQ(asked("/l/a/:rw"), "/l/a rw");
  EXPECT_EQ(asked("/l/a:rw"), "/l/a rw");
  EXPECT_EQ(asked("speech:rw"), "speech rw");
  EXPECT_EQ(asked("/l/a:ro"), "/l/a");
  EXPECT_EQ(asked("/l/a:rw:ro"), "/l/a:rw");
  EXPECT_EQ(asked(":rw"), "refused");
  for (const auto* dataset : {"/l/a", "/l/a:rw", "/l/a:ro", "speech"})
    for (const bool read_write : {false, true}) {
      const auto again = parse_asked_dataset(show_asked(dataset, read_write));
      ASSERT_TRUE(again) << dataset;
      EXPECT_EQ(again->dataset, dataset);
      EXPECT_EQ(again->read_write, read_write);
    }
}

TEST(RequestCodec, RefusesForgedText) {
  for (const char* bad : {"",
                          "v1",
                          "v2,d=/a",
                          "v1,d=",
                          "v1,w=wait",
                          "v1,d=/a,w=wait,w=wait",
                          "v1,d=/a,c=1,c=2",
                          "v1,d=/a,x=1",
                          "v1,d=/a/../b",
                          "v1,d=rel/path",
                          "v1,d=%2Fa%00",
                          "v1,d=/a;rm",
                          "v1,d=/a,l=2@5",
                          "v1,d=/a,l=0.5",
                          "v1,d=/a,i=5",
                          "v1,d=/a,i=0@0",
                          "v1,d=/a,i=5@0,i=5@0",
                          "v1,d=/a,i=-1@0",
                          "v1,d=/a,i=0@x",
                          "v1,d=/a,o=maybe",
                          "v1,d=/a,o=keep,o=keep",
                          "v1,d=/a,",
                          "v1,d=/a,c=-1",
                          "v1,d=/a,w="})
    EXPECT_FALSE(decode_request(bad)) << bad;
}

TEST(RequestCodec, RefusesMoreThan8KiB) {
  Request r;
  for (int i = 0; i < 100; ++i) r.datasets.push_back("/lustre/" + std::string(100, 'x') + std::to_string(i));
  ASSERT_FALSE(encode(r));
  EXPECT_EQ(encode(r).error().code, Code::out_of_range);
}

TEST(Options, SayWhatIsWrong) {
  for (const char* bad : {"", "0", "-1", "12Q"}) {
    ASSERT_FALSE(parse_cache_option(bad)) << bad;
    EXPECT_NE(parse_cache_option(bad).error().message.find("--cache"), std::string::npos);
  }
  for (const char* bad : {"", "1.5", "-0.1", "0.9@x", "nan", "0.9@"}) EXPECT_FALSE(parse_locality_option(bad)) << bad;
  EXPECT_EQ(parse_locality_option("0.9@10:00")->max_wait, std::chrono::minutes(10));
  for (const char* bad : {"", "/", "a/b", "./x", "/a/../b", "~/x", "~bob/", "/a/.", "a b"})
    EXPECT_FALSE(parse_dataset_option(bad)) << bad;
  EXPECT_EQ(*parse_dataset_option("//lustre///speech/"), "/lustre/speech");
  EXPECT_FALSE(parse_warm_option("yes"));
  EXPECT_EQ(*parse_warm_option(""), WarmMode::wait);
}

TEST(FindRequest, ReadsTheDirectiveOrTheAdminComment) {
  EXPECT_EQ(find_request("#BB_LUA other\n#BB_LUA atlas pool=atlas capacity=1 req=v1,d=/a", ""), "v1,d=/a");
  EXPECT_EQ(find_request("", "site note atlas:v1,d=/a more"), "v1,d=/a");
  EXPECT_EQ(find_request("#BB_LUA other req=x", "notatlas:v1"), std::nullopt);
  EXPECT_EQ(find_request("", "see-atlas:site atlas:v1,d=/a"), "v1,d=/a");
}

TEST(Request, TheUsersOwnBeginTimeIsKeptInTheAdminComment) {
  const std::chrono::sys_seconds begin{std::chrono::seconds(1795309815)};
  EXPECT_EQ(find_own_begin(add_own_begin("", begin)), begin);
  EXPECT_EQ(add_own_begin("site note", begin), "site note atlas-begin:1795309815");
  EXPECT_EQ(find_own_begin("site note atlas-begin:1795309815 more"), begin);
  EXPECT_EQ(find_own_begin("xatlas-begin:1"), std::nullopt);
  EXPECT_EQ(find_own_begin("xatlas-begin:1 atlas-begin:2"), std::chrono::sys_seconds(std::chrono::seconds(2)));
  EXPECT_EQ(find_own_begin("atlas-begin:1x"), std::nullopt);
  EXPECT_EQ(find_own_begin("atlas-begin:"), std::nullopt);
  EXPECT_EQ(find_request("", add_own_begin("atlas:v1,d=/a", begin)), "v1,d=/a");
}

}  // namespace
}  // namespace atlas
