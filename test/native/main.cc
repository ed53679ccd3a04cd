#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <iostream>

namespace {

constexpr const char* kSanitizer =
#if defined(__SANITIZE_ADDRESS__)
    "address";
#elif defined(__SANITIZE_THREAD__)
    "thread";
#else
    "none";
#endif

}  // namespace

int main(int argc, char** argv) {
  // Whoever runs this build wants to know that it is the one it is called.
  std::cout << "sanitizer: " << kSanitizer << std::endl;
  doctest::Context context(argc, argv);
  return context.run();
}
