// Work shared among torch's own threads, so that one pool serves torch, compiled graphs and these kernels.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/c/shim.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <stdexcept>

namespace custos {

static inline int64_t thread_count() {
  uint32_t threads = 1;
  torch_get_num_threads(&threads);
  return threads;
}

// work(i) for each i below `count`. Threads take the next i when they are ready: who wakes late, or shares its core
// with another process, takes less.
template <class Work>
static void share(int64_t count, bool worth_sharing, const Work& work) {
  const int64_t threads = worth_sharing ? std::min(count, thread_count()) : 1;
  if (threads <= 1) {
    for (int64_t i = 0; i < count; i++) work(i);
    return;
  }
  struct Job {
    const Work& work;
    int64_t count;
    std::atomic<int64_t> next{0};
  } job{work, count};
  const auto take = [](int64_t, int64_t, void* memory) {
    Job& job = *(Job*)memory;
    for (int64_t i; (i = job.next.fetch_add(1, std::memory_order_relaxed)) < job.count;) job.work(i);
  };
  if (torch_parallel_for(0, threads, 1, take, &job)) throw std::runtime_error("custos: a parallel region failed");
}

}  // namespace custos
