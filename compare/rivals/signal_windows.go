package rivals

import "os"

func restartSignal() os.Signal { return os.Interrupt } // there is no keeper, and no other signal
