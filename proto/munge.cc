#include "proto/munge.h"

#include <munge.h>

#include <cstdlib>
#include <memory>

namespace atlas {
namespace {

struct ContextDeleter {
  void operator()(munge_ctx_t ctx) const { munge_ctx_destroy(ctx); }
};
using Context = std::unique_ptr<munge_ctx, ContextDeleter>;

Result<Context> make_context(const std::string& socket) {
  Context ctx(munge_ctx_create());
  if (!ctx) return fail(Code::resource_exhausted, "munge: out of memory");
  if (!socket.empty() && munge_ctx_set(ctx.get(), MUNGE_OPT_SOCKET, socket.c_str()) != EMUNGE_SUCCESS)
    return fail(Code::invalid_argument, "munge: cannot use the socket " + socket);
  return ctx;
}

std::string where(const std::string& socket) {
  return socket.empty() ? "munged's default socket" : socket;
}

}  // namespace

Result<std::string> Munge::encode(std::string_view payload) const {
  ATLAS_ASSIGN(const Context ctx, make_context(socket_));
  char* text = nullptr;
  const munge_err_t err = munge_encode(&text, ctx.get(), payload.data(), static_cast<int>(payload.size()));
  const std::unique_ptr<char, decltype(&std::free)> owner(text, &std::free);
  if (err != EMUNGE_SUCCESS)
    return fail(Code::unavailable, std::string("munge cannot make a credential: ") + munge_strerror(err) +
                                       " (is munged running? " + where(socket_) + ")");
  return std::string(text);
}

Result<Munge::Decoded> Munge::decode(std::string_view credential) const {
  ATLAS_ASSIGN(const Context ctx, make_context(socket_));
  void* data = nullptr;
  int size = 0;
  Decoded out;
  const std::string text(credential);
  const munge_err_t err = munge_decode(text.c_str(), ctx.get(), &data, &size, &out.caller.uid, &out.caller.gid);
  const std::unique_ptr<void, decltype(&std::free)> owner(data, &std::free);
  if (err == EMUNGE_SOCKET) return fail(Code::unavailable, "munged does not answer at " + where(socket_));
  if (err != EMUNGE_SUCCESS)
    return fail(Code::unauthenticated, std::string("munge refuses the credential: ") + munge_strerror(err));
  out.payload.assign(static_cast<const char*>(data), static_cast<std::size_t>(size));
  return out;
}

}  // namespace atlas
