#pragma once

namespace atlas {

/// For programs that hold large things for a while, as the list of a million files: what they free is to go back to the
/// system. Sets the size from which an allocation has pages of its own to 256 KiB for good (glibc lets it grow to 32
/// MiB, and then keeps 100 bytes per file of lists that are long gone). Once, before threads start.
void settle_allocator();

/// Gives the system back what freed memory there is between what is in use. Takes milliseconds; thread-safe.
void return_free_memory();

}  // namespace atlas
