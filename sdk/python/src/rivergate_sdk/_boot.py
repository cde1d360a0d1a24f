"""The first code of a built plugin: build puts it into the file as __main__.py. It may use the standard library only, and any
Python 3 must understand it, so that a wrong one can say what is missing."""

import os
import stat
import sys
import sysconfig
import tempfile

BUILT_FOR = (0, 0, "platform")  # build fills it in: native code is for one minor version and one platform


def main():  # type: () -> None
    right_python()
    # The host gives no HOME, and a plugin's own user may have none that can be written: then it is the temporary folder.
    os.environ["SHIV_ROOT"] = cache()
    for name in ("ENTRY_POINT", "MODULE", "INTERPRETER", "CONSOLE_SCRIPT", "FORCE_EXTRACT", "PREPEND_PYTHONPATH", "EXTEND_PYTHONPATH"):
        os.environ.pop("SHIV_" + name, None)
    import _bootstrap  # type: ignore  # shiv's, beside this file

    _bootstrap.bootstrap()


def right_python():  # type: () -> None
    major, minor, platform = BUILT_FOR
    if platform != sysconfig.get_platform():
        end("was built for %s, and this machine is %s" % (platform, sysconfig.get_platform()))
    if sys.version_info[:2] == (major, minor):
        return
    wanted = "python%d.%d" % (major, minor)
    if os.environ.get("PLUGIN_PYTHON_CHOSEN") != wanted:  # else the one of that name is another after all
        os.environ["PLUGIN_PYTHON_CHOSEN"] = wanted
        try:
            os.execvp(wanted, [wanted] + sys.argv)
        except OSError:
            pass
    end("was built for %s, python3 on the PATH is %d.%d, and there is no %s: install it, or build the plugin again with this python3" % (wanted, sys.version_info[0], sys.version_info[1], wanted))


def cache():  # type: () -> str
    """The folder below which the file is unpacked, once for each content. Code is run from there: it belongs to this user and
    to nobody else, or it is not used."""
    reasons = []
    for folder in candidates():
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            info = os.lstat(folder)
        except OSError as error:
            reasons.append(str(error))
            continue
        if not stat.S_ISDIR(info.st_mode):
            reasons.append("%s is not a folder" % folder)
        elif info.st_uid != os.geteuid():
            reasons.append("%s belongs to another user (%d)" % (folder, info.st_uid))
        elif info.st_mode & 0o077:
            reasons.append("%s is open to others: chmod 700 it" % folder)
        elif not os.access(folder, os.W_OK | os.X_OK):
            reasons.append("%s cannot be written" % folder)
        else:
            return folder
    end("finds no folder to unpack itself into: %s. Set XDG_CACHE_HOME to one that its user can write, and hand it on with PLUGIN_<NAME>_PASS_ENV" % "; ".join(reasons))
    return ""


def candidates():  # type: () -> list[str]
    folders = []
    named, home = os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~")
    if os.path.isabs(named):
        folders.append(os.path.join(named, "rivergate-python"))
    elif os.path.isabs(home) and os.path.isdir(home):
        folders.append(os.path.join(home, ".cache", "rivergate-python"))
    folders.append(os.path.join(tempfile.gettempdir(), "rivergate-python-%d" % os.geteuid()))
    return folders


def end(reason):  # type: (str) -> None
    sys.stderr.write("%s %s\n" % (os.path.basename(sys.argv[0]), reason))
    sys.exit(1)


if __name__ == "__main__":
    main()
