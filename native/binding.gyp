{
  "targets": [
    {
      "target_name": "aced_native",
      "sources": ["addon.cc", "row-hasher.cc", "row-matcher.cc", "datagram.cc", "peer.cc"],
      "defines": ["NAPI_VERSION=8"],
      "cflags_cc": ["-O3", "-std=c++17", "-Wall", "-Wextra"],
      "xcode_settings": { "GCC_OPTIMIZATION_LEVEL": "3", "CLANG_CXX_LANGUAGE_STANDARD": "c++17" }
    }
  ]
}
