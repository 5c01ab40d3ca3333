// The servers of a testbed's cluster in one binary, as the packages of Kubernetes and etcd have them; and what talks to them
// from a shell. The first argument says which program it is.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	etcd "go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

func main() {
	program := ""
	if len(os.Args) > 1 {
		program = os.Args[1]
		// each of them reads the arguments of the process
		os.Args = append([]string{program}, os.Args[2:]...)
	}
	switch program {
	case "etcd":
		etcd.Main(os.Args)
	case "kube-apiserver":
		run(apiserver.NewAPIServerCommand())
	case "kube-controller-manager":
		run(manager.NewControllerManagerCommand())
	case "kubectl":
		run(kubectl.NewDefaultKubectlCommand())
	case "helm-template":
		if err := template(os.Args[1:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "helm-template:", err)
			os.Exit(1)
		}
	default:
		fmt.Fprintln(os.Stderr, "kubernetes etcd|kube-apiserver|kube-controller-manager|kubectl|helm-template ...")
		os.Exit(2)
	}
}

func run(command *cobra.Command) {
	os.Exit(cli.Run(command))
}
