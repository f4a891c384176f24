package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/hotsvc/svc/configsrc"
)

// stdinName stands for standard input as a command's FILE.
const stdinName = "-"

// readDocument reads a command's FILE, or standard input, up to the limit of a
// source. Its errors mean that there is nothing to check: exit code 2.
func (e *env) readDocument(name string) ([]byte, error) {
	in := e.stdin
	if name != stdinName {
		info, err := os.Stat(name)
		if err == nil && !info.Mode().IsRegular() {
			err = &fs.PathError{Op: "read", Path: name, Err: errors.New("not a regular file")}
		}
		if err != nil {
			return nil, &exitError{2, err}
		}
		f, err := os.Open(name) //nolint:gosec // the user's own file
		if err != nil {
			return nil, &exitError{2, err}
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	data, err := configsrc.Limits{}.ReadAll(in, configsrc.Origin{Source: "file", Name: name})
	if err != nil && !errors.Is(err, configsrc.ErrInvalid) {
		err = &exitError{2, fmt.Errorf("read %s: %w", name, err)}
	}
	return data, err
}

// flatten parses a document by the ending of its name; standard input is YAML,
// which JSON is too.
func flatten(name string, document []byte) (configsrc.Values, error) {
	format := configsrc.YAML
	if name != stdinName && name != "" {
		var ok bool
		if format, ok = configsrc.FormatOf(name); !ok {
			return nil, &exitError{2, fmt.Errorf("%s: the ending tells the format: .yaml, .yml, .json, .toml or .properties", name)}
		}
	}
	origin := configsrc.Origin{Source: "file", Name: name}
	if name == stdinName {
		origin.Name = "stdin"
	}
	return configsrc.Flatten(format, document, origin, configsrc.Limits{})
}
