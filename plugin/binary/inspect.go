package binary

import (
	"bytes"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// elfTarget is how a processor shows in an ELF file.
type elfTarget struct {
	machine elf.Machine
	class   elf.Class
	order   elf.Data
}

var elfTargets = map[string]elfTarget{
	"386":      {elf.EM_386, elf.ELFCLASS32, elf.ELFDATA2LSB},
	"amd64":    {elf.EM_X86_64, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"arm":      {elf.EM_ARM, elf.ELFCLASS32, elf.ELFDATA2LSB},
	"arm64":    {elf.EM_AARCH64, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"loong64":  {elf.EM_LOONGARCH, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"mips":     {elf.EM_MIPS, elf.ELFCLASS32, elf.ELFDATA2MSB},
	"mipsle":   {elf.EM_MIPS, elf.ELFCLASS32, elf.ELFDATA2LSB},
	"mips64":   {elf.EM_MIPS, elf.ELFCLASS64, elf.ELFDATA2MSB},
	"mips64le": {elf.EM_MIPS, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"ppc64":    {elf.EM_PPC64, elf.ELFCLASS64, elf.ELFDATA2MSB},
	"ppc64le":  {elf.EM_PPC64, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"riscv64":  {elf.EM_RISCV, elf.ELFCLASS64, elf.ELFDATA2LSB},
	"s390x":    {elf.EM_S390, elf.ELFCLASS64, elf.ELFDATA2MSB},
}

var elfSystems = map[string][]elf.OSABI{
	"linux":     {elf.ELFOSABI_NONE, elf.ELFOSABI_LINUX},
	"freebsd":   {elf.ELFOSABI_FREEBSD},
	"netbsd":    {elf.ELFOSABI_NONE, elf.ELFOSABI_NETBSD},
	"openbsd":   {elf.ELFOSABI_NONE, elf.ELFOSABI_OPENBSD},
	"dragonfly": {elf.ELFOSABI_NONE},
	"solaris":   {elf.ELFOSABI_NONE, elf.ELFOSABI_SOLARIS},
	"illumos":   {elf.ELFOSABI_NONE, elf.ELFOSABI_SOLARIS},
}

var machoTargets = map[string]macho.Cpu{"amd64": macho.CpuAmd64, "arm64": macho.CpuArm64}

var peTargets = map[string]uint16{
	"386": pe.IMAGE_FILE_MACHINE_I386, "amd64": pe.IMAGE_FILE_MACHINE_AMD64, "arm64": pe.IMAGE_FILE_MACHINE_ARM64,
}

// inspect checks that the file below root is a program for the platform.
func inspect(root *os.Root, name, system, arch string) error {
	info, err := root.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		return fail(NotExecutable, nil, "%s is not a file", name)
	}
	var file *os.File
	if err == nil {
		file, err = root.Open(name)
	}
	if err != nil {
		return ioError(err, "read %s", name)
	}
	defer file.Close()
	start := make([]byte, 512)
	n, err := io.ReadFull(file, start)
	if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
		return ioError(err, "read %s", name)
	}
	start = start[:n]
	has := func(magic string) bool { return bytes.HasPrefix(start, []byte(magic)) }
	switch {
	case has("#!"):
		return inspectScript(name, start, system)
	case has(elf.ELFMAG):
		return inspectELF(file, name, system, arch)
	case has("\xcf\xfa\xed\xfe"), has("\xfe\xed\xfa\xcf"), has("\xce\xfa\xed\xfe"), has("\xca\xfe\xba\xbe"):
		return inspectMachO(file, name, system, arch)
	case has("MZ"):
		return inspectPE(file, name, system, arch)
	case isMarkup(start):
		return fail(BadContent, nil, "%s is a web page", name)
	case n == 0:
		return fail(NotExecutable, nil, "%s is empty", name)
	}
	return fail(NotExecutable, nil, "%s is neither a program nor a script that names its interpreter", name)
}

func inspectScript(name string, start []byte, system string) error {
	line, _, _ := strings.Cut(string(start[2:]), "\n")
	if system == "windows" || !filepath.IsAbs(strings.TrimSpace(line)) {
		return fail(NotExecutable, nil, "%s is a script whose interpreter cannot be told", name)
	}
	return nil
}

func inspectELF(file io.ReaderAt, name, system, arch string) error {
	f, err := elf.NewFile(file)
	if err != nil {
		return fail(NotExecutable, err, "%s is a damaged ELF file", name)
	}
	target, known := elfTargets[arch]
	if !known || f.Machine != target.machine || f.Class != target.class || f.Data != target.order {
		return wrongArch(name, f.Machine.String(), system, arch)
	}
	if !slices.Contains(elfSystems[system], f.OSABI) {
		return wrongArch(name, f.OSABI.String(), system, arch)
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN || f.Entry == 0 {
		return fail(NotExecutable, nil, "%s is an ELF file of type %v, not a program", name, f.Type)
	}
	return inspectLoader(f, name, system, arch)
}

// inspectLoader checks that the loader which the program asks for is on this
// machine, if it is for this machine: musl programs need musl.
func inspectLoader(f *elf.File, name, system, arch string) error {
	if system != runtime.GOOS || arch != runtime.GOARCH {
		return nil
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(p.Open(), longestPath))
		loader := strings.TrimRight(string(text), "\x00")
		if err == nil {
			_, err = os.Stat(loader)
		}
		if err != nil {
			return fail(NotExecutable, nil, "%s needs the loader %s, which is not on this machine", name, shorten(loader)).
				hint("choose a statically linked build")
		}
	}
	return nil
}

func inspectMachO(file io.ReaderAt, name, system, arch string) error {
	want, known := machoTargets[arch]
	if system != "darwin" || !known {
		return wrongArch(name, "a Mach-O file", system, arch)
	}
	if fat, err := macho.NewFatFile(file); err == nil {
		for _, a := range fat.Arches {
			if a.Cpu == want && a.Type == macho.TypeExec {
				return nil
			}
		}
		return wrongArch(name, "a Mach-O file of other processors", system, arch)
	}
	f, err := macho.NewFile(file)
	switch {
	case err != nil:
		return fail(NotExecutable, err, "%s is a damaged Mach-O file", name)
	case f.Cpu != want:
		return wrongArch(name, f.Cpu.String(), system, arch)
	case f.Type != macho.TypeExec:
		return fail(NotExecutable, nil, "%s is a Mach-O file of type %v, not a program", name, f.Type)
	}
	return nil
}

func inspectPE(file io.ReaderAt, name, system, arch string) error {
	want, known := peTargets[arch]
	if system != "windows" || !known {
		return wrongArch(name, "a program for Windows", system, arch)
	}
	f, err := pe.NewFile(file)
	switch {
	case err != nil:
		return fail(NotExecutable, err, "%s is a damaged PE file", name)
	case f.Machine != want:
		return wrongArch(name, "a program for another processor", system, arch)
	case f.Characteristics&pe.IMAGE_FILE_DLL != 0 || f.Characteristics&pe.IMAGE_FILE_EXECUTABLE_IMAGE == 0:
		return fail(NotExecutable, nil, "%s is a library, not a program", name)
	}
	return nil
}

func wrongArch(name, is, system, arch string) error {
	return fail(WrongArch, nil, "%s is %s, wanted is a program for %s on %s", name, is, arch, system).
		hint("check os, arch and the words that stand for them")
}
