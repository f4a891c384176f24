package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
)

// output is how a command prints its result. It is a flag's value, so that a
// wrong one stops the command before it does anything.
type output string

const (
	outputText output = "text"
	outputJSON output = "json"
)

func (o *output) addFlag(flags *pflag.FlagSet) {
	*o = outputText
	flags.VarP(o, "output", "o", "how to print the result: text or json")
}

func (o *output) String() string { return string(*o) }
func (o *output) Type() string   { return "format" }

// Set takes the flag's text.
func (o *output) Set(text string) error {
	if format := output(text); format != outputText && format != outputJSON {
		return errors.New("want text or json")
	}
	*o = output(text)
	return nil
}

// print writes the result as JSON, or as text where that was chosen.
func (o *output) print(w io.Writer, result any, text func(io.Writer)) error {
	if *o == outputText {
		text(w)
		return nil
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(result); err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	return nil
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
		// What is not plain is quoted: a value must not steer the terminal.
		if quoted := strconv.Quote(x); x == "" || strings.Contains(x, " ") || quoted != `"`+x+`"` {
			return quoted
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
	ago := time.Since(t).Round(time.Second)
	if ago < 0 {
		return fmt.Sprintf("%s (in %s)", t.Local().Format(time.DateTime), -ago)
	}
	return fmt.Sprintf("%s (%s ago)", t.Local().Format(time.DateTime), ago)
}
