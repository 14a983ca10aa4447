/* SPDX-License-Identifier: Apache-2.0 */
/* What is declared and not built yet: each device that lands takes its functions out of here. */
#include <errno.h>

#include "error.h"
#include "kvm_shim_virtio.h"
