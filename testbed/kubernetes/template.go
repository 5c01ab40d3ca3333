package main

import (
	"flag"
	"fmt"
	"io"
	"path"
	"sort"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"helm.sh/helm/v4/pkg/strvals"
)

// What `helm template --include-crds` prints of a chart without dependencies and hooks: its CRDs, then its templates by name,
// each with a line that says where it comes from.
func template(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("helm-template", flag.ContinueOnError)
	namespace := flags.String("namespace", "default", "namespace of the release")
	crds := flags.Bool("include-crds", false, "the chart's CRDs, too")
	values := map[string]any{}
	flags.Func("set", "KEY=VALUE of the chart's values, any number of times", func(text string) error {
		return strvals.ParseInto(text, values)
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return fmt.Errorf("wants RELEASE CHART-DIRECTORY, got %d arguments", flags.NArg())
	}
	chart, err := loader.LoadDir(flags.Arg(1))
	if err != nil {
		return err
	}
	release := common.ReleaseOptions{Name: flags.Arg(0), Namespace: *namespace, IsInstall: true, Revision: 1}
	all, err := util.ToRenderValues(chart, values, release, common.DefaultCapabilities)
	if err != nil {
		return err
	}
	rendered, err := (engine.Engine{Strict: true}).Render(chart, all)
	if err != nil {
		return err
	}
	if *crds {
		for _, crd := range chart.CRDObjects() {
			document(out, crd.Filename, string(crd.File.Data))
		}
	}
	names := make([]string, 0, len(rendered))
	for name := range rendered {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		base := path.Base(name)
		if strings.HasPrefix(base, "_") || base == "NOTES.txt" {
			continue
		}
		document(out, name, rendered[name])
	}
	return nil
}

func document(out io.Writer, source, text string) {
	if text = strings.TrimSpace(text); text != "" {
		fmt.Fprintf(out, "---\n# Source: %s\n%s\n", source, text)
	}
}
