package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
)

// output is how a command prints its result.
type output struct{ format string }

func (o *output) addFlag(flags *pflag.FlagSet) {
	flags.StringVarP(&o.format, "output", "o", "text", "how to print the result: text or json")
}

// print writes the result as JSON, or as text where that was chosen.
func (o *output) print(w io.Writer, result any, text func(io.Writer)) error {
	switch o.format {
	case "text":
		text(w)
		return nil
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		if err := e.Encode(result); err != nil {
			return fmt.Errorf("print result: %w", err)
		}
		return nil
	default:
		return &exitError{2, fmt.Errorf("--output %s: want text or json", o.format)}
	}
}

// table writes rows in columns. The last cell of a row may be of any length.
func table(w io.Writer, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, row := range rows {
		_, _ = fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	_ = t.Flush()
}

// showValue writes a setting's value as people write it.
func showValue(v any) string {
	switch x := v.(type) {
	case nil:
		return "(not set)"
	case string:
		if x == "" || strings.ContainsAny(x, " \n\t\"") {
			return fmt.Sprintf("%q", x)
		}
		return x
	default:
		data, err := json.Marshal(x)
		if err != nil {
			return fmt.Sprint(x)
		}
		return string(data)
	}
}

// showTime writes a time in the local zone, and how long ago it was.
func showTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%s (%s ago)", t.Local().Format(time.DateTime), time.Since(t).Round(time.Second))
}
