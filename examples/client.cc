// Classify pictures with an exported file and onnxruntime alone:
//
//     apt-get install libonnxruntime-dev        (Debian 13; onnxruntime's releases have the same headers and library)
//     g++ -std=c++17 client.cc -I/usr/include/onnxruntime -lonnxruntime -o client
//     ./client model.pictures.onnx picture.ppm …
//
// The file was exported with `deploy.preprocess=inside`. C++ has no decoder: pictures are binary PPM, RGB of 8 bits.
// Prints the most probable class as JSON, or "unknown", and its probability; of a network of several labels those from
// their thresholds on.
#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <numeric>
#include <onnxruntime_cxx_api.h>
#include <stdexcept>
#include <string>
#include <vector>

// The next number of a PPM's header; a comment lasts from # to the end of its line.
std::int64_t next_number(std::istream& file) {
  std::int64_t number = 0;
  std::string comment;
  while ((file >> std::ws).peek() == '#') std::getline(file, comment);
  file >> number;
  return number;
}

// RGB of 8 bits, row by row, and its shape [1, height, width, 3].
std::vector<std::uint8_t> read_ppm(const std::string& path, std::vector<std::int64_t>& shape) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " cannot be opened: " + std::strerror(errno));
  std::string magic(2, '\0');
  file.read(magic.data(), 2);
  const std::int64_t width = next_number(file), height = next_number(file), most = next_number(file);
  file.get();
  if (!file || magic != "P6" || most != 255 || std::min(width, height) < 1 || std::max(width, height) > 65536)
    throw std::runtime_error(path + " is not a binary PPM of 8 bits");
  const auto begin = file.tellg();
  if (file.seekg(0, std::ios::end).tellg() - begin < height * width * 3) throw std::runtime_error(path + " ends too early");
  file.seekg(begin);
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(height * width * 3));
  file.read(reinterpret_cast<char*>(pixels.data()), height * width * 3);
  shape = {1, height, width, 3};
  return pixels;
}

// A text of a JSON list of texts, in its quotes.
std::string text_of(const std::string& list, std::size_t number) {
  for (std::size_t end = 0;; ++end) {
    const std::size_t begin = list.find('"', end);
    for (end = begin + 1; list.at(end) != '"'; ++end) end += list[end] == '\\';
    if (number-- == 0) return list.substr(begin, end - begin + 1);
  }
}

// The numbers of a JSON list.
std::vector<float> numbers_of(const std::string& list) {
  std::vector<float> numbers;
  char* end = nullptr;
  for (const char* at = list.c_str(); *at == '[' || *at == ','; at = end)
    numbers.push_back(static_cast<float>(std::strtod(at + 1, &end)));
  return numbers;
}

int main(int count, char** arguments) try {
  if (count < 3) throw std::runtime_error("usage: client model.pictures.onnx picture.ppm …");
  Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "client");
  Ort::Session session(env, arguments[1], Ort::SessionOptions());
  Ort::AllocatorWithDefaultOptions allocator;
  const Ort::ModelMetadata metadata = session.GetModelMetadata();
  const auto classes = metadata.LookupCustomMetadataMapAllocated("classes", allocator);
  if (!classes) throw std::runtime_error(std::string(arguments[1]) + " names no classes. Export it with deploy.preprocess=inside.");
  const auto unknown_below = metadata.LookupCustomMetadataMapAllocated("unknown_below", allocator);
  const auto of_labels = metadata.LookupCustomMetadataMapAllocated("thresholds", allocator);
  const std::vector<float> thresholds = of_labels ? numbers_of(of_labels.get()) : std::vector<float>();
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const char *input = "pictures", *output = "probabilities";
  for (int place = 2; place < count; ++place) {
    std::vector<std::int64_t> shape;
    std::vector<std::uint8_t> pixels = read_ppm(arguments[place], shape);
    const auto tensor = Ort::Value::CreateTensor(memory, pixels.data(), pixels.size(), shape.data(), shape.size());
    const auto outputs = session.Run(Ort::RunOptions(), &input, &tensor, 1, &output, 1);
    const float* values = outputs[0].GetTensorData<float>();
    std::vector<std::size_t> shown(outputs[0].GetTensorTypeAndShapeInfo().GetElementCount());
    std::iota(shown.begin(), shown.end(), 0);
    std::stable_sort(shown.begin(), shown.end(), [&](auto one, auto other) { return values[one] > values[other]; });
    const auto is_below = [&](auto label) { return values[label] < thresholds.at(label); };
    if (thresholds.empty()) shown.resize(1);
    else shown.erase(std::remove_if(shown.begin(), shown.end(), is_below), shown.end());
    std::cout << arguments[place] << (shown.empty() ? "\t\"no label\"" : "");
    for (const std::size_t label : shown) {
      const bool is_known = !unknown_below || values[label] >= std::stof(unknown_below.get());
      std::cout << '\t' << (is_known ? text_of(classes.get(), label) : "\"unknown\"") << '\t' << values[label];
    }
    std::cout << '\n';
  }
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
