// torch.ops.custos on the CPU. Speaks to torch through its stable C interface alone: that compiles in a few seconds,
// where torch's own headers take ten, and a graph compiled ahead of time calls aoti_torch_cpu_* below directly.
//
// The caches' memory belongs to Python (inference.engine.kernels.ops), which binds and releases it here by handle.

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/c/shim.h>

#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "attention.hpp"
#include "linear.hpp"

namespace custos {
namespace {

// Tensors

void check(AOTITorchError error, const char* what) {
  if (error != AOTI_TORCH_SUCCESS) throw std::runtime_error(std::string("custos: torch refused to ") + what);
}

void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(std::string("custos: ") + message);
}

struct Tensor {
  char* data;
  int64_t rank;
  const int64_t *sizes, *strides;
  int32_t dtype;

  explicit Tensor(AtenTensorHandle handle) {
    void* memory;
    int64_t *shape, *steps;
    check(aoti_torch_get_data_ptr(handle, &memory), "show a tensor's memory");
    check(aoti_torch_get_dim(handle, &rank), "count a tensor's dimensions");
    check(aoti_torch_get_sizes(handle, &shape), "show a tensor's sizes");
    check(aoti_torch_get_strides(handle, &steps), "show a tensor's strides");
    check(aoti_torch_get_dtype(handle, &dtype), "show a tensor's type");
    data = (char*)memory;
    sizes = shape;
    strides = steps;
  }

  int64_t size(int64_t i) const { return sizes[i < 0 ? rank + i : i]; }

  int64_t numbers() const {
    int64_t count = 1;
    for (int64_t i = 0; i < rank; i++) count *= sizes[i];
    return count;
  }

  bool contiguous() const {
    int64_t step = 1;
    for (int64_t i = rank - 1; i >= 0; step *= sizes[i--])
      if (sizes[i] != 1 && strides[i] != step) return false;
    return true;
  }
};

AtenTensorHandle new_tensor(const std::vector<int64_t>& sizes, int32_t dtype) {
  std::vector<int64_t> strides(sizes.size());
  int64_t step = 1;
  for (size_t i = sizes.size(); i-- > 0; step *= sizes[i]) strides[i] = step;
  AtenTensorHandle result;
  check(aoti_torch_empty_strided(sizes.size(), sizes.data(), strides.data(), dtype, aoti_torch_device_type_cpu(), 0,
                                 &result),
        "make a tensor");
  return result;
}

const int32_t kFloat = aoti_torch_dtype_float32(), kBfloat16 = aoti_torch_dtype_bfloat16();
const int32_t kInt8 = aoti_torch_dtype_int8(), kInt64 = aoti_torch_dtype_int64();

// Caches

struct Layer {
  void *keys, *values;
  int64_t kv_heads, key_size, value_size;
};

struct Cache {
  std::vector<Layer> layers;
  int32_t dtype;
  int64_t block_size;
  std::vector<int32_t> tables, starts, contexts;
  int64_t table_width = 0;
};

std::mutex caches_lock;
std::unordered_map<int64_t, std::shared_ptr<Cache>> caches;

std::shared_ptr<Cache> find_cache(int64_t handle) {
  const std::lock_guard<std::mutex> guard(caches_lock);
  const auto found = caches.find(handle);
  if (found == caches.end()) throw std::runtime_error("custos: no cache is bound to this handle");
  return found->second;
}

// Attention

template <class T>
Strided<const T> heads_of(const Tensor& t) {
  return {(const T*)t.data, t.strides[1], t.strides[2], t.strides[3]};
}

template <class T>
void attend(const Cache& cache, const Layer& layer, const Tensor& query, const Tensor& key, const Tensor& value,
            double scale, int64_t window, double softcap, const float* sinks, void* result) {
  Attention<T> a{heads_of<T>(query), heads_of<T>(key), heads_of<T>(value), (T*)result};
  a.keys = (T*)layer.keys;
  a.values = (T*)layer.values;
  a.tokens = query.size(2);
  a.heads = query.size(1);
  a.kv_heads = layer.kv_heads;
  a.key_size = layer.key_size;
  a.value_size = layer.value_size;
  a.block_size = cache.block_size;
  a.tables = cache.tables.data();
  a.table_width = cache.table_width;
  a.sequences = cache.contexts.size();
  a.starts = cache.starts.data();
  a.contexts = cache.contexts.data();
  a.scale = scale;
  a.softcap = softcap;
  a.window = window;
  a.sinks = sinks;
  attention(a);
}

std::vector<float> floats_of(const Tensor& t) {
  require(t.dtype == kFloat || t.dtype == kBfloat16, "sinks must be bfloat16 or float32");
  std::vector<float> result(t.numbers());
  for (size_t i = 0; i < result.size(); i++)
    result[i] = t.dtype == kFloat ? ((const float*)t.data)[i * t.strides[0]]
                                  : to_float(((const bf16*)t.data)[i * t.strides[0]]);
  return result;
}

AtenTensorHandle attention_op(AtenTensorHandle query_, AtenTensorHandle key_, AtenTensorHandle value_,
                              AtenTensorHandle handle_, int64_t layer_index, double scale, int64_t window,
                              double softcap, const AtenTensorHandle* sinks_) {
  const Tensor query(query_), key(key_), value(value_), handle(handle_);
  require(handle.dtype == kInt64 && handle.numbers() == 1, "a cache's handle is one int64");
  const std::shared_ptr<Cache> cache = find_cache(*(const int64_t*)handle.data);
  require(layer_index >= 0 && layer_index < int64_t(cache->layers.size()), "the cache has no such layer");
  const Layer& layer = cache->layers[layer_index];
  require(query.rank == 4 && key.rank == 4 && value.rank == 4, "query, key and value are (1, heads, tokens, size)");
  const int64_t tokens = query.size(2), heads = query.size(1);
  require(query.dtype == cache->dtype && key.dtype == cache->dtype && value.dtype == cache->dtype,
          "query, key and value must have the cache's type");
  require(query.size(0) == 1 && key.size(2) == tokens && value.size(2) == tokens && heads % layer.kv_heads == 0 &&
              key.size(1) == layer.kv_heads && value.size(1) == layer.kv_heads && query.size(3) == layer.key_size &&
              key.size(3) == layer.key_size && value.size(3) == layer.value_size,
          "query, key and value do not fit the cache");
  require(!cache->starts.empty() && cache->starts.back() == tokens, "the step began with another number of tokens");
  std::vector<float> sinks;
  if (sinks_) sinks = floats_of(Tensor(*sinks_));
  require(!sinks_ || int64_t(sinks.size()) == heads, "there is one sink for each query head");
  const AtenTensorHandle result = new_tensor({1, tokens, heads, layer.value_size}, query.dtype);
  const auto run = query.dtype == kFloat ? attend<float> : attend<bf16>;
  run(*cache, layer, query, key, value, scale, window, softcap, sinks_ ? sinks.data() : nullptr, Tensor(result).data);
  return result;
}

// Linear

struct WeightArgument {
  AtenTensorHandle weight;
  const AtenTensorHandle* scale;
  int64_t outputs;
};

// Rows with an even number of inputs, side by side: x itself where it is so already, else a copy.
Activations rows_of(const Tensor& x, std::vector<bf16>& copy) {
  const int64_t inputs = x.size(-1), padded = inputs + inputs % 2, rows = inputs ? x.numbers() / inputs : 0;
  if (x.contiguous() && padded == inputs) return {(const bf16*)x.data, rows, inputs, inputs};
  copy.assign(rows * padded, bf16{0});
  std::vector<int64_t> at(x.rank, 0);
  for (int64_t row = 0; row < rows; row++) {
    int64_t offset = 0;
    for (int64_t i = 0; i < x.rank - 1; i++) offset += at[i] * x.strides[i];
    for (int64_t k = 0; k < inputs; k++)
      copy[row * padded + k] = ((const bf16*)x.data)[offset + k * x.strides[x.rank - 1]];
    for (int64_t i = x.rank - 2; i >= 0 && ++at[i] == x.sizes[i]; i--) at[i] = 0;
  }
  return {copy.data(), rows, padded, padded};
}

// The memory of a packed weight, and the scale that goes with int8.
Weight packed(AtenTensorHandle weight_, const AtenTensorHandle* scale_, int64_t inputs) {
  const Tensor weight(weight_);
  require(weight.rank == 4 && weight.contiguous() && weight.size(2) == kBlock && weight.size(3) == 2,
          "a weight must be packed (outputs / 32, inputs / 2, 32, 2)");
  require(weight.size(1) == (inputs + 1) / 2, "the weight has another number of inputs");
  require(weight.dtype == (scale_ ? kInt8 : kBfloat16), "a weight is bfloat16, or int8 with a scale");
  Weight result{weight.data, nullptr, weight.size(0), 0, nullptr};
  if (scale_) {
    const Tensor scale(*scale_);
    require(scale.dtype == kFloat && scale.contiguous() && scale.numbers() == result.blocks * kBlock,
            "a scale is float32, one for each output of the packed weight");
    result.scale = (const float*)scale.data;
  }
  return result;
}

template <size_t N>
void linear_op(AtenTensorHandle x_, const WeightArgument (&arguments)[N], AtenTensorHandle (&results)[N]) {
  static thread_local std::vector<bf16> copy;
  const Tensor x(x_);
  require(x.dtype == kBfloat16 && x.rank > 0, "linear takes bfloat16 activations");
  const Activations activations = rows_of(x, copy);
  std::vector<int64_t> sizes(x.sizes, x.sizes + x.rank);
  Weight weights[N];
  for (size_t i = 0; i < N; i++) {
    weights[i] = packed(arguments[i].weight, arguments[i].scale, x.size(-1));
    weights[i].outputs = arguments[i].outputs;
    require(weights[i].outputs > (weights[i].blocks - 1) * kBlock && weights[i].outputs <= weights[i].blocks * kBlock,
            "the weight has another number of outputs");
  }
  for (size_t i = 0; i < N; i++) {
    sizes.back() = weights[i].outputs;
    results[i] = new_tensor(sizes, kBfloat16);
    weights[i].result = (bf16*)Tensor(results[i]).data;
  }
  linear(activations, weights, N);
}

AtenTensorHandle embedding_op(AtenTensorHandle ids_, AtenTensorHandle weight_, const AtenTensorHandle* scale,
                              int64_t width) {
  const Tensor ids(ids_);
  require(ids.dtype == kInt64 && ids.contiguous(), "ids are int64, contiguous");
  const Weight weight = packed(weight_, scale, width);
  const int64_t count = ids.numbers();
  const int64_t* numbers = (const int64_t*)ids.data;
  for (int64_t i = 0; i < count; i++)
    require(numbers[i] >= 0 && numbers[i] < weight.blocks * kBlock, "an id lies outside the embedding");
  std::vector<int64_t> sizes(ids.sizes, ids.sizes + ids.rank);
  sizes.push_back(width);
  const AtenTensorHandle result = new_tensor(sizes, kBfloat16);
  embedding(numbers, count, weight.data, weight.scale, width, (bf16*)Tensor(result).data);
  return result;
}

// The dispatcher's calls: arguments lie on a stack, tensors are ours to delete, results take the arguments' place.

class Arguments {
 public:
  explicit Arguments(StableIValue* stack) : stack_(stack) {}
  Arguments(const Arguments&) = delete;
  ~Arguments() {
    for (const AtenTensorHandle handle : owned_) aoti_torch_delete_tensor_object(handle);
  }

  AtenTensorHandle tensor() {
    owned_[count_] = (AtenTensorHandle)stack_[at_++];
    return owned_[count_++];
  }
  const AtenTensorHandle* optional() {
    StableIValue* const boxed = (StableIValue*)stack_[at_++];
    if (!boxed) return nullptr;
    owned_[count_] = (AtenTensorHandle)*boxed;
    delete boxed;
    return &owned_[count_++];
  }
  int64_t integer() { return (int64_t)stack_[at_++]; }
  double real() { return bitcast<double>(stack_[at_++]); }

 private:
  StableIValue* stack_;
  size_t at_ = 0, count_ = 0;
  AtenTensorHandle owned_[8] = {};
};

int32_t type_of(StableIValue tensor) {
  int32_t dtype;
  check(aoti_torch_get_dtype((AtenTensorHandle)tensor, &dtype), "show a tensor's type");
  return dtype;
}

// What the kernels do not take goes to the implementation in Python, arguments and all.
void hand_over(const char* name, StableIValue* stack) {
  check(torch_call_dispatcher(name, "", stack, TORCH_ABI_VERSION), "run custos in Python");
}

void boxed_attention(StableIValue* stack, uint64_t, uint64_t) {
  const int32_t dtype = type_of(stack[0]);
  if (dtype != kFloat && dtype != kBfloat16) return hand_over("custos::attention_reference", stack);
  Arguments in(stack);
  const AtenTensorHandle query = in.tensor(), key = in.tensor(), value = in.tensor(), handle = in.tensor();
  const int64_t layer = in.integer();
  const double scale = in.real();
  const int64_t window = in.integer();
  const double softcap = in.real();
  const AtenTensorHandle* sinks = in.optional();
  stack[0] = (StableIValue)attention_op(query, key, value, handle, layer, scale, window, softcap, sinks);
}

template <size_t N>
void boxed_linear(StableIValue* stack, uint64_t, uint64_t) {
  static constexpr const char* kNames[] = {"custos::linear_reference", "custos::linear_2_reference",
                                           "custos::linear_3_reference"};
  if (type_of(stack[0]) != kBfloat16) return hand_over(kNames[N - 1], stack);
  Arguments in(stack);
  const AtenTensorHandle x = in.tensor();
  WeightArgument weights[N];
  for (WeightArgument& weight : weights) {
    weight.weight = in.tensor();
    weight.scale = in.optional();
    weight.outputs = in.integer();
  }
  AtenTensorHandle results[N];
  linear_op(x, weights, results);
  for (size_t i = 0; i < N; i++) stack[i] = (StableIValue)results[i];
}

void boxed_embedding(StableIValue* stack, uint64_t, uint64_t) {
  const int32_t dtype = type_of(stack[1]);
  if (dtype != kInt8 && dtype != kBfloat16) return hand_over("custos::embedding_reference", stack);
  Arguments in(stack);
  const AtenTensorHandle ids = in.tensor(), weight = in.tensor();
  const AtenTensorHandle* scale = in.optional();
  stack[0] = (StableIValue)embedding_op(ids, weight, scale, in.integer());
}

}  // namespace
}  // namespace custos

using namespace custos;

#define CUSTOS_API extern "C" __attribute__((visibility("default")))

// For Python, by ctypes. Sizes and tables were checked there.

CUSTOS_API void custos_bind(int64_t handle, int64_t layers, int32_t is_float, int64_t block_size,
                            void* const* keys, void* const* values, const int64_t* shapes) {
  auto cache = std::make_shared<Cache>();
  cache->dtype = is_float ? kFloat : kBfloat16;
  cache->block_size = block_size;
  for (int64_t i = 0; i < layers; i++, shapes += 3)
    cache->layers.push_back({keys[i], values[i], shapes[0], shapes[1], shapes[2]});
  const std::lock_guard<std::mutex> guard(caches_lock);
  caches[handle] = std::move(cache);
}

CUSTOS_API void custos_begin(int64_t handle, int64_t sequences, int64_t table_width, const int32_t* tables,
                             const int32_t* starts, const int32_t* contexts) {
  Cache& cache = *find_cache(handle);
  cache.table_width = table_width;
  cache.tables.assign(tables, tables + sequences * table_width);
  cache.starts.assign(starts, starts + sequences + 1);
  cache.contexts.assign(contexts, contexts + sequences);
}

CUSTOS_API void custos_release(int64_t handle) {
  const std::lock_guard<std::mutex> guard(caches_lock);
  caches.erase(handle);
}

CUSTOS_API const char* custos_isa() {
#if defined(CUSTOS_AVX512_INT8)
  return "avx512 bf16 vnni";
#elif defined(CUSTOS_AVX512_BF16)
  return "avx512 bf16";
#elif defined(__AVX512F__)
  return "avx512";
#elif defined(__AVX2__)
  return "avx2";
#else
  return "plain";
#endif
}

// For Python to register the operations once it wants them, not when the library is loaded.
CUSTOS_API int32_t custos_register() {
  TorchLibraryHandle library;  // lives as long as the process
  if (aoti_torch_library_init_impl("custos", "CPU", __FILE__, __LINE__, &library)) return 1;
  const std::pair<const char*, void (*)(StableIValue*, uint64_t, uint64_t)> kernels[] = {
      {"attention", boxed_attention}, {"linear", boxed_linear<1>},      {"linear_2", boxed_linear<2>},
      {"linear_3", boxed_linear<3>},  {"embedding", boxed_embedding},
  };
  for (const auto& [name, kernel] : kernels)
    if (torch_library_impl(library, name, kernel, TORCH_ABI_VERSION)) return 1;
  return 0;
}

// For graphs compiled ahead of time: inference.engine.kernels.build.c_shims declares these to the compiler.

CUSTOS_API AOTITorchError aoti_torch_cpu_attention(AtenTensorHandle query, AtenTensorHandle key,
                                                   AtenTensorHandle value, AtenTensorHandle handle, int64_t layer,
                                                   double scale, int64_t window, double softcap,
                                                   const AtenTensorHandle* sinks, AtenTensorHandle* result) {
  *result = attention_op(query, key, value, handle, layer, scale, window, softcap, sinks);
  return AOTI_TORCH_SUCCESS;
}

CUSTOS_API AOTITorchError aoti_torch_cpu_linear(AtenTensorHandle x, AtenTensorHandle weight,
                                                const AtenTensorHandle* scale, int64_t outputs,
                                                AtenTensorHandle* result) {
  AtenTensorHandle results[1];
  linear_op(x, {{weight, scale, outputs}}, results);
  *result = results[0];
  return AOTI_TORCH_SUCCESS;
}

CUSTOS_API AOTITorchError aoti_torch_cpu_linear_2(AtenTensorHandle x, AtenTensorHandle weight_0,
                                                  const AtenTensorHandle* scale_0, int64_t out_0,
                                                  AtenTensorHandle weight_1, const AtenTensorHandle* scale_1,
                                                  int64_t out_1, AtenTensorHandle* result_0,
                                                  AtenTensorHandle* result_1) {
  AtenTensorHandle results[2];
  linear_op(x, {{weight_0, scale_0, out_0}, {weight_1, scale_1, out_1}}, results);
  *result_0 = results[0];
  *result_1 = results[1];
  return AOTI_TORCH_SUCCESS;
}

CUSTOS_API AOTITorchError aoti_torch_cpu_linear_3(AtenTensorHandle x, AtenTensorHandle weight_0,
                                                  const AtenTensorHandle* scale_0, int64_t out_0,
                                                  AtenTensorHandle weight_1, const AtenTensorHandle* scale_1,
                                                  int64_t out_1, AtenTensorHandle weight_2,
                                                  const AtenTensorHandle* scale_2, int64_t out_2,
                                                  AtenTensorHandle* result_0, AtenTensorHandle* result_1,
                                                  AtenTensorHandle* result_2) {
  AtenTensorHandle results[3];
  linear_op(x, {{weight_0, scale_0, out_0}, {weight_1, scale_1, out_1}, {weight_2, scale_2, out_2}}, results);
  *result_0 = results[0];
  *result_1 = results[1];
  *result_2 = results[2];
  return AOTI_TORCH_SUCCESS;
}

CUSTOS_API AOTITorchError aoti_torch_cpu_embedding(AtenTensorHandle ids, AtenTensorHandle weight,
                                                   const AtenTensorHandle* scale, int64_t width,
                                                   AtenTensorHandle* result) {
  *result = embedding_op(ids, weight, scale, width);
  return AOTI_TORCH_SUCCESS;
}
