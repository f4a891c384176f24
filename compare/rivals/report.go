package rivals

import (
	"cmp"
	"runtime"

	"github.com/klauspost/cpuid/v2"
)

// Report is the result of a run.
type Report struct {
	Machine Machine `json:"machine"`
	// Seed is what the intervals were computed with.
	Seed uint64 `json:"seed"`
	// Seconds is how long the run took.
	Seconds float64  `json:"seconds"`
	Rows    []Row    `json:"rows"`
	Notes   []string `json:"notes"`
}

// Machine is what the run was measured on.
type Machine struct {
	CPU       string `json:"cpu"`
	Cores     int    `json:"cores"`     // that the process may run on
	Scheduled int    `json:"scheduled"` // GOMAXPROCS
	Go        string `json:"go"`
	OS        string `json:"os"`
	Arch      string `json:"arch"`
}

// Row is one comparison.
type Row struct {
	What string `json:"what"`
	Ours Figure `json:"ours"`
	// Rival is what ours is set against; nil where it stands alone.
	Rival *Figure `json:"rival,omitempty"`
	// Ratio is ours / rival, round by round.
	Ratio *Interval `json:"ratio,omitempty"`
	// Target is in words; "" where there is none, and Met is then nil.
	Target string `json:"target,omitempty"`
	Met    *bool  `json:"met,omitempty"`
}

// Figure is one measured value.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"` // "ns", "ms", "%" or unitRequests
	// Allocs is the number of allocations, where they were counted.
	Allocs *float64 `json:"allocs,omitempty"`
}

// unitRequests is for a number of requests, which has no fractions.
const unitRequests = "requests"

// thisMachine describes the machine that this process runs on.
func thisMachine() Machine {
	return Machine{
		CPU: cmp.Or(cpuid.CPU.BrandName, "unknown CPU"), Cores: runtime.NumCPU(), Scheduled: runtime.GOMAXPROCS(0),
		Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
	}
}
