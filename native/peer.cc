// Who is at the other end of a unix socket, as the system knows it: Node.js does not tell.

#include "addon.h"

#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

namespace {

bool PeerUid(int fd, uid_t* uid) {
#ifdef SO_PEERCRED
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  // Of a socket that is none of a unix domain there is no such thing.
  if (peer.uid == static_cast<uid_t>(-1)) return false;
  *uid = peer.uid;
  return true;
#else
  gid_t group;
  return getpeereid(fd, uid, &group) == 0;
#endif
}

}  // namespace

napi_value GetPeerUid(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument, result;
  int32_t fd;
  if (napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr) != napi_ok || count != 1 ||
      napi_get_value_int32(env, argument, &fd) != napi_ok) {
    napi_throw_type_error(env, nullptr, "peerUid: descriptor");
    return nullptr;
  }
  uid_t uid = 0;
  const bool isKnown = PeerUid(fd, &uid);
  const napi_status status =
      isKnown ? napi_create_uint32(env, uid, &result) : napi_get_null(env, &result);
  return status == napi_ok ? result : nullptr;
}
