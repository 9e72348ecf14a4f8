// What the addon exports, each made in a file of its own.

#pragma once

#include <node_api.h>

// createHasher(seedLow, seedHigh, nullToken: Buffer, columnCount): { shared: Int32Array, hash }
napi_value CreateHasher(napi_env env, napi_callback_info info);

// createRowMatcher(literals: Buffer[], wanted: number[], maxRows): { shared: Int32Array, match }
napi_value CreateRowMatcher(napi_env env, napi_callback_info info);
