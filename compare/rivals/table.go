package rivals

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// WriteTable writes the report as one table for people, which is Markdown too.
func (r *Report) WriteTable(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s, %d cores, GOMAXPROCS %d, %s %s/%s; %.0f s, seed %d\n\n",
		r.Machine.CPU, r.Machine.Cores, r.Machine.Scheduled, r.Machine.Go, r.Machine.OS, r.Machine.Arch, r.Seconds, r.Seed)
	table := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	header := []string{"what", "ours", "rival", "ratio [95 % interval]", "target", "met"}
	writeCells(table, header)
	rule := make([]string, len(header))
	for i := range rule {
		rule[i] = "---"
	}
	writeCells(table, rule)
	for _, row := range r.Rows {
		writeCells(table, row.cells())
	}
	// Both write to memory, which does not fail; only the last write can.
	_ = table.Flush()
	b.WriteByte('\n')
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "- %s\n", note)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func writeCells(w io.Writer, cells []string) {
	_, _ = fmt.Fprintf(w, "| %s\t|\n", strings.Join(cells, "\t| "))
}

func (r Row) cells() []string {
	cells := []string{r.What, r.Ours.String(), "-", "-", "-", "-"}
	if r.Rival != nil {
		cells[2] = r.Rival.Name + ": " + r.Rival.String()
	}
	if r.Ratio != nil {
		cells[3] = fmt.Sprintf("%.3g [%.3g, %.3g]", r.Ratio.Median, r.Ratio.Low, r.Ratio.High)
	}
	if r.Met != nil {
		cells[4], cells[5] = r.Target, "missed"
		if *r.Met {
			cells[5] = "yes"
		}
	}
	return cells
}

// String is the value in a unit that suits its size, and the allocations,
// without the name.
func (f Figure) String() string {
	value, u := f.Value, f.Unit
	switch {
	case u == "ns" && value >= 1e6:
		value, u = value/1e6, "ms"
	case u == "ns" && value >= 1e3:
		value, u = value/1e3, "µs"
	}
	digits := 0
	switch {
	case u == unitRequests:
	case value < 10:
		digits = 2
	case value < 1000:
		digits = 1
	}
	s := strconv.FormatFloat(value, 'f', digits, 64) + " " + u
	if f.Allocs != nil {
		s += ", " + strconv.FormatFloat(*f.Allocs, 'f', -1, 64) + " allocs"
	}
	return s
}
