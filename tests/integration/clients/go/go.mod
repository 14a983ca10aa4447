// SPDX-License-Identifier: Apache-2.0

module velum.invalid/lifecycle

go 1.23

require velum.invalid/client/api v0.0.0

replace velum.invalid/client/api => ./api
