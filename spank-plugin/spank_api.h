#pragma once
// Slurm's header declares its hooks outside extern "C".
#include <cstdint>
extern "C" {
#include <slurm/spank.h>
}
