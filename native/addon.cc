#include "addon.h"

namespace {

// ADDON_VERSION in src/base/native.ts.
constexpr int32_t kVersion = 3;

bool Export(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function;
  return napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function) ==
             napi_ok &&
         napi_set_named_property(env, exports, name, function) == napi_ok;
}

bool ExportVersion(napi_env env, napi_value exports) {
  napi_value version;
  return napi_create_int32(env, kVersion, &version) == napi_ok &&
         napi_set_named_property(env, exports, "version", version) == napi_ok;
}

}  // namespace

NAPI_MODULE_INIT() {
  if (!ExportVersion(env, exports) ||
      !Export(env, exports, "createRowHasher", CreateRowHasher) ||
      !Export(env, exports, "createRowMatcher", CreateRowMatcher) ||
      !Export(env, exports, "sendDatagram", SendDatagram) ||
      !Export(env, exports, "peerUid", GetPeerUid)) {
    napi_throw_error(env, nullptr, "aced_native: cannot register");
    return nullptr;
  }
  return exports;
}
