package file_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/configsrc/file"
)

func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // an example
	path := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(path, []byte("log:\n  level: info\n"), 0o600); err != nil {
		panic(err)
	}

	src, err := file.New(path, file.Options{})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	snap, err := src.Next(ctx, configsrc.Version{}) // what there is now
	if err != nil {
		panic(err)
	}
	fmt.Println(snap.Values["log.level"].Raw)

	// An edit that is one step: write beside it, and rename.
	if err := os.WriteFile(path+".new", []byte("log: {level: debug}"), 0o600); err != nil {
		panic(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		panic(err)
	}
	snap, err = src.Next(ctx, snap.Version) // blocks until it is other than that
	if err != nil {
		panic(err)
	}
	fmt.Println(snap.Values["log.level"].Raw)
	// Output:
	// info
	// debug
}
