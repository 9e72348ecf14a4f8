// What the addon exports, each made in a file of its own.

#pragma once

#include <node_api.h>

// createRowHasher(seedLow, seedHigh, nullToken: Buffer, forms: Buffer): { shared: Int32Array, hash }
napi_value CreateRowHasher(napi_env env, napi_callback_info info);

// createRowMatcher(literals: Buffer[], wanted: number[], maxRows): { shared: Int32Array, match }
napi_value CreateRowMatcher(napi_env env, napi_callback_info info);

// sendDatagram(path, text): 0, or the number of the error
napi_value SendDatagram(napi_env env, napi_callback_info info);

// peerUid(descriptor): the user at the other end of a unix socket, or null
napi_value GetPeerUid(napi_env env, napi_callback_info info);
