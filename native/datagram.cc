// One datagram to a unix socket, for the service manager (sd_notify(3)): Node.js has no such sockets.

#include "addon.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>

namespace {

bool Text(napi_env env, napi_value value, std::string* text) {
  size_t length;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) return false;
  text->resize(length + 1);
  if (napi_get_value_string_utf8(env, value, &(*text)[0], length + 1, &length) != napi_ok) return false;
  text->resize(length);
  return true;
}

// Never waits: with a queue that is full the event loop would hang for as long as the reader does.
int Send(const std::string& path, const std::string& message) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) return ENAMETOOLONG;
  std::memcpy(address.sun_path, path.data(), path.size());
  // A socket without a file: its name begins with NUL, written as @.
  if (path[0] == '@') address.sun_path[0] = '\0';
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() +
                                             (path[0] == '@' ? 0 : 1));
  const int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
  if (fd < 0) return errno;
  int flags = MSG_DONTWAIT;
#ifdef MSG_NOSIGNAL
  flags |= MSG_NOSIGNAL;
#endif
  const ssize_t sent = sendto(fd, message.data(), message.size(), flags,
                              reinterpret_cast<sockaddr*>(&address), length);
  const int error = sent < 0 ? errno : 0;
  close(fd);
  return error;
}

}  // namespace

napi_value SendDatagram(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  std::string path, message;
  if (napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr) != napi_ok || count != 2 ||
      !Text(env, arguments[0], &path) || !Text(env, arguments[1], &message)) {
    napi_throw_type_error(env, nullptr, "sendDatagram: path and text");
    return nullptr;
  }
  napi_value result;
  return napi_create_int32(env, Send(path, message), &result) == napi_ok ? result : nullptr;
}
