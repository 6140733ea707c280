#include "cache-agent/view/fuse/request_slots.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/fuse.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "cache-agent/view/fuse/kept_view.h"

namespace atlas::view {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

/// A request as the kernel would write it, told by its number.
std::span<std::byte> arrives(std::span<std::byte> slot, std::uint64_t number, std::size_t size = 80) {
  fuse_in_header header{};
  header.len = static_cast<std::uint32_t>(size);
  header.unique = number;
  std::memcpy(slot.data(), &header, sizeof header);
  return slot.first(size);
}

/// What a later agent finds; `park` says whether it parks them again.
std::vector<std::uint64_t> replayed(RequestSlots& slots, bool park = false) {
  std::vector<std::uint64_t> numbers;
  slots.replay([&](std::span<const std::byte> request) {
    fuse_in_header header{};
    std::memcpy(&header, request.data(), sizeof header);
    EXPECT_EQ(header.len, request.size());
    numbers.push_back(header.unique);
    if (park) {
      EXPECT_GE(slots.park_current(), 0);
    }
  });
  return numbers;
}

std::shared_ptr<RequestSlots> later(const RequestSlots& slots) {
  auto mapped = RequestSlots::map(UniqueFd(fcntl(slots.memory(), F_DUPFD_CLOEXEC, 3)));
  EXPECT_TRUE(mapped) << mapped.error().message;
  return *mapped;
}

class Slots : public ::testing::Test {
 protected:
  const std::shared_ptr<RequestSlots> slots_ = *RequestSlots::make(4);
  int park(unsigned thread, std::uint64_t number, std::size_t size = 80) {
    const auto slot = slots_->of_thread(thread);
    RequestSlots::current(arrives(slot, number, size));
    const int parked = slots_->park_current();
    RequestSlots::clear(slot);
    return parked;
  }
};

TEST_F(Slots, NewOnesHoldNothing) {
  EXPECT_THAT(replayed(*later(*slots_)), IsEmpty());
}

TEST_F(Slots, ALaterAgentFindsWhatWasReadAndWhatWasParkedAndNothingThatWasAnswered) {
  park(0, 1);
  const int answered = park(0, 2);
  park(1, 3);
  slots_->free(answered);
  arrives(slots_->of_thread(2), 4);
  EXPECT_THAT(replayed(*later(*slots_)), ElementsAre(1, 3, 4));
  EXPECT_THAT(replayed(*later(*slots_)), IsEmpty()) << "all were answered at once";
}

TEST_F(Slots, WhatALaterAgentParksTheNextOneFindsAgain) {
  park(0, 1);
  arrives(slots_->of_thread(2), 2);
  EXPECT_THAT(replayed(*later(*slots_), true), ElementsAre(1, 2));
  EXPECT_THAT(replayed(*later(*slots_), true), ElementsAre(1, 2));
  EXPECT_THAT(replayed(*later(*slots_)), ElementsAre(1, 2));
  EXPECT_THAT(replayed(*later(*slots_)), IsEmpty());
}

TEST_F(Slots, FreeSlotsAreUsedAgainAndTheirNumberIsBounded) {
  for (int i = 0; i < 20'000; ++i) slots_->free(park(0, 1));
  std::vector<int> parked;
  for (int slot = 0; (slot = park(0, 7)) >= 0;) parked.push_back(slot);
  EXPECT_EQ(parked.size(), 8192U);
  slots_->free(parked[100]);
  EXPECT_EQ(park(0, 8), parked[100]);
}

TEST_F(Slots, WhatIsTooLargeForASlotIsNotParked) {
  EXPECT_EQ(park(0, 1, 600), -1);
}

TEST_F(Slots, MemoryOfSomethingElseIsRefused) {
  UniqueFd other(memfd_create("other", MFD_CLOEXEC));
  EXPECT_EQ(ftruncate(other.get(), 100'000), 0);
  EXPECT_FALSE(RequestSlots::map(std::move(other)));
}

TEST(KeptView, ComesBackAsItWas) {
  KeptView view;
  view.job = {"cluster one", 7, 2, std::chrono::sys_seconds(std::chrono::seconds(1'700'000'000))};
  view.as = {1001, 1002, {5, 1002}};
  view.dataset = {"lustre", "a b/=%\n\xff/c"};
  view.generation = GenerationId::of("0123456789abcdef");
  view.noexec = true;
  const auto back = unpack(pack(view) + "later=field\n");
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->job, view.job);
  EXPECT_EQ(back->as, view.as);
  EXPECT_EQ(back->dataset, view.dataset);
  EXPECT_EQ(back->generation, view.generation);
  EXPECT_TRUE(back->noexec);
  EXPECT_FALSE(unpack("")) << "nothing is not a view";
  EXPECT_FALSE(unpack("job 7\njob=x\n"));
}

}  // namespace
}  // namespace atlas::view
