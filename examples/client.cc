// Classify pictures with an exported file and OpenVINO's library alone, which PyPI's wheel `openvino` brings with its headers:
//
//     OV=$(python -c "import openvino; print(openvino.__path__[0])")
//     g++ -std=c++17 client.cc -I"$OV/include" "$OV"/libs/libopenvino.so.* -Wl,-rpath,"$OV/libs" -o client
//     ./client model.pictures.onnx picture.ppm …
//
// The file was exported with `deploy.preprocess=inside`. C++ has no decoder: pictures are binary PPM, RGB of 8 bits, with
// comments or without.
// Prints the number of the most probable class, counted from 0 as in `model.json`, and its probability: it applies neither
// `unknown_below` nor the thresholds of labels, which `client.py` reads from the file's metadata.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <openvino/openvino.hpp>
#include <stdexcept>
#include <string>

// The next number of a PPM's header; a comment lasts from # to the end of its line.
std::size_t next_number(std::istream& file) {
  std::size_t number = 0;
  std::string comment;
  while ((file >> std::ws).peek() == '#') std::getline(file, comment);
  file >> number;
  return number;
}

ov::Tensor read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " cannot be opened: " + std::strerror(errno));
  std::string magic(2, '\0');
  file.read(magic.data(), 2);
  const std::size_t width = next_number(file), height = next_number(file), most = next_number(file);
  file.get();
  if (!file || magic != "P6" || most != 255) throw std::runtime_error(path + " is not a binary PPM of 8 bits");
  ov::Tensor pixels(ov::element::u8, {1, height, width, 3});
  file.read(reinterpret_cast<char*>(pixels.data<std::uint8_t>()), static_cast<std::streamsize>(pixels.get_size()));
  if (!file) throw std::runtime_error(path + " ends too early");
  return pixels;
}

int main(int count, char** arguments) try {
  if (count < 3) throw std::runtime_error("usage: client model.pictures.onnx picture.ppm …");
  ov::Core core;
  auto request = core.compile_model(arguments[1], "CPU", ov::hint::inference_precision(ov::element::f32)).create_infer_request();
  for (int place = 2; place < count; ++place) {
    request.set_input_tensor(read_ppm(arguments[place]));
    request.infer();
    const ov::Tensor probabilities = request.get_tensor("probabilities");
    const float* begin = probabilities.data<const float>();
    const float* best = std::max_element(begin, begin + probabilities.get_size());
    std::cout << arguments[place] << '\t' << best - begin << '\t' << *best << '\n';
  }
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
