#include "launcher/atlas_submit_names.h"

#include "launcher/ui_controller.h"

namespace atlas {

Status check_names(const Config& config, const Request& request) {
  constexpr milliseconds kPatience{1000};
  std::unique_ptr<ControllerClient> client;
  for (const auto& dataset : request.datasets) {
    if (dataset.starts_with('/')) continue;
    if (!client) {
      auto made = ControllerClient::make(config);
      if (!made) return {};
      client = std::move(*made);
    }
    v1::ListDatasetsRequest which;
    which.set_which(dataset);
    const auto reply = client->call(&v1::Controller::Stub::ListDatasets, "Controller.ListDatasets", which, kPatience);
    if (reply) continue;
    if (reply.error().code == Code::not_found) return fail(reply.error());
    return {};
  }
  return {};
}

}  // namespace atlas
