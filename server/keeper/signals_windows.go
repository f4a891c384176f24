package keeper

import "os"

// otherSignals: there are none.
func otherSignals() []os.Signal { return nil }
