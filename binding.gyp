{
  'targets': [{
    'target_name': 'node_rdma',
    'sources': ['<!@(find native/core native/binding -name "*.cc")'],
    'include_dirs': ['<!(node -p "require(\'node-addon-api\').include_dir")'],
    'defines': [
      'NAPI_VERSION=9',
      'NAPI_CPP_EXCEPTIONS',
      'NODE_ADDON_API_DISABLE_DEPRECATED',
      'NODE_ADDON_API_REQUIRE_BASIC_FINALIZERS',
      'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
    ],
    'cflags!': ['-fno-exceptions'],
    'cflags_cc!': ['-fno-exceptions', '-fno-rtti', '-std=gnu++17', '-std=gnu++20'],
    'cflags_cc': ['-std=c++20', '-fexceptions', '-fvisibility=hidden', '-Wall', '-Wextra', '-Wno-cast-function-type'],
    'libraries': ['-libverbs', '-lrdmacm'],
    # nodelete: a worker may be the last to unload the addon while libuv still has a callback to run.
    'ldflags': ['-Wl,-z,nodelete', '-Wl,-Bsymbolic', '-Wl,--exclude-libs,ALL', '-static-libstdc++', '-static-libgcc'],
  }],
}
