//! Our part of GRUB's configuration: where it goes, what it says, and how it is put beside what others have there.

use super::{COUNTER, ENTRY};

/// Files that a static configuration reads from GRUB's directory for its users, the better one first: it is read behind the
/// boot entries, so that whatever the configuration itself has set by then is overruled.
const FILES: [&str; 2] = ["custom.cfg", "user.cfg"];

/// First and last line of our part.
const BEGIN: &str = "# BEGIN lifecycle-agent boot fallback";
const END: &str = "# END lifecycle-agent boot fallback";

/// The highest number of attempts that the configuration can count down: GRUB has no arithmetic, each step is written out.
pub(super) const MOST_ATTEMPTS: u32 = 5;

/// Which file is for us, by the text of `grub.cfg`; `Err` says why there is none.
pub(super) fn file_in(configuration: &str) -> Result<&'static str, String> {
    let lines: Vec<&str> = configuration
        .lines()
        .map(str::trim_start)
        .filter(|line| !line.starts_with('#'))
        .collect();
    // Without it the installed GRUB may have no module for it, and nobody has tried whether it can write the block.
    if !lines
        .iter()
        .any(|line| words(line).any(|word| word == "load_env"))
    {
        return Err("it has no load_env".to_owned());
    }
    let mut why = format!("it reads neither {} nor {}", FILES[0], FILES[1]);
    for file in FILES {
        let reads = |line: &&str| {
            let mut words = words(line);
            words.any(|word| matches!(word, "source" | "." | "configfile"))
                && words.any(|word| is_in_prefix(word, file))
        };
        let Some(at) = lines.iter().rposition(reads) else {
            continue;
        };
        let behind = lines.get(at + 1..).unwrap_or_default();
        if behind.iter().any(|line| sets_default(line)) {
            why = format!("it chooses what to boot behind reading {file}");
            continue;
        }
        return Ok(file);
    }
    Err(why)
}

/// The words of a line, without what holds them together.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split([' ', '\t', ';', '"', '\''])
        .filter(|word| !word.is_empty())
}

/// GRUB's own directory is `prefix`; `config_directory` is where `grub.cfg` lies, which is the same.
fn is_in_prefix(word: &str, file: &str) -> bool {
    [
        "$prefix/",
        "${prefix}/",
        "$config_directory/",
        "${config_directory}/",
    ]
    .iter()
    .any(|directory| word.strip_prefix(directory) == Some(file))
}

fn sets_default(line: &str) -> bool {
    line.split(';')
        // What is printed sets nothing.
        .filter(|command| words(command).next() != Some("echo"))
        .any(|command| words(command).any(|word| word.starts_with("default=")))
}

/// Our part. A kernel that cannot even be loaded fails without a reboot: `fallback` is for this, knows no ids, and the second
/// entry is that of the deployment that was the default before. Does nothing while the variables are not set. Upstream's GRUB has no `decrement`, and a whitelist keeps
/// `load_env` from bringing other variables back to what they were when the configuration read them.
fn part() -> String {
    let mut text = format!(
        "{BEGIN}\n\
         # A new release has some attempts to boot; behind them the release that it was installed from is started.\n\
         load_env {COUNTER} {ENTRY}\n\
         if [ -n \"${{{ENTRY}}}\" -a -n \"${{{COUNTER}}}\" ]; then\n\
         \x20 set fallback=1\n\
         \x20 if [ \"${{{COUNTER}}}\" = \"0\" ]; then\n\
         \x20   set default=\"${{{ENTRY}}}\"\n\
         \x20 else\n"
    );
    for left in 1..=MOST_ATTEMPTS {
        let test = if left == 1 { "if" } else { "elif" };
        text += &format!(
            "    {test} [ \"${{{COUNTER}}}\" = \"{left}\" ]; then set {COUNTER}={}\n",
            left - 1
        );
    }
    text += &format!("    else set {COUNTER}=0\n    fi\n    save_env {COUNTER}\n  fi\nfi\n{END}\n");
    text
}

/// The file with our part in it, and all that others have there.
pub(super) fn with_part(text: &str) -> String {
    let mut text = without_part(text);
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text + &part()
}

/// The file as others have it. A beginning of ours without an end is somebody's edit and stays.
pub(super) fn without_part(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = split_at_line(rest, BEGIN) {
        let Some((_, after)) = split_at_line(behind, END) else {
            break;
        };
        kept.push_str(before);
        rest = after;
    }
    kept + rest
}

/// What stands before and behind the first line that says just this.
fn split_at_line<'t>(text: &'t str, line: &str) -> Option<(&'t str, &'t str)> {
    let mut at = 0;
    for found in text.split_inclusive('\n') {
        let (before, behind) = (text.get(..at)?, text.get(at + found.len()..)?);
        if found.trim_end() == line {
            return Some((before, behind));
        }
        at += found.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As coreos-assembler and bootupd write it, shortened.
    const STATIC: &str = "\
search --label boot --set boot --no-floppy
set root=$boot
if [ -f ${config_directory}/grubenv ]; then
  load_env -f ${config_directory}/grubenv
elif [ -s $prefix/grubenv ]; then
  load_env
fi
set timeout=1
if [ -f $prefix/user.cfg ]; then
  source $prefix/user.cfg
fi
blscfg
";

    #[test]
    fn the_file_is_one_that_the_configuration_reads() {
        let check = |text: &str, expect: Result<&str, &str>| {
            assert_eq!(file_in(text), expect.map_err(str::to_owned), "{text}");
        };
        check(STATIC, Ok("user.cfg"));
        let both = format!(
            "{STATIC}if [ -f $prefix/custom.cfg ]; then\n  source \"${{prefix}}/custom.cfg\"\nfi\n"
        );
        check(&both, Ok("custom.cfg"));
        // As grub-mkconfig writes it.
        let generated = "load_env\nset default=\"0\"\n. $prefix/custom.cfg; menuentry a { echo }\n";
        check(generated, Ok("custom.cfg"));
        let late = format!("{both}set default=0\n");
        check(
            &late,
            Err("it chooses what to boot behind reading user.cfg"),
        );
        let printed = format!("{both}echo \"default=${{default}}\"\n");
        check(&printed, Ok("custom.cfg"));
        check(
            &format!("{both}echo a; set default=0\n"),
            Err("it chooses what to boot behind reading user.cfg"),
        );
        let between = both.replace("blscfg\n", "blscfg\nset default=1\n");
        check(&between, Ok("custom.cfg"));
        let neither = "it reads neither custom.cfg nor user.cfg";
        check("load_env\nblscfg\n", Err(neither));
        check("load_env\n#source $prefix/custom.cfg\n", Err(neither));
        check("load_env\nsource /other/custom.cfg\n", Err(neither));
        check(
            "load_env\nif [ -f $prefix/custom.cfg ]; then\nfi\n",
            Err(neither),
        );
        check("source $prefix/custom.cfg\n", Err("it has no load_env"));
        check("", Err("it has no load_env"));
    }

    #[test]
    fn what_others_have_there_stays() {
        for foreign in [
            "",
            "set timeout=5\n",
            "set superusers=root\npassword_pbkdf2 root grub.x\n",
        ] {
            let with = with_part(foreign);
            assert!(
                with.starts_with(foreign)
                    && with.ends_with("# END lifecycle-agent boot fallback\n")
            );
            assert_eq!(with_part(&with), with);
            assert_eq!(without_part(&with), foreign);
            assert_eq!(without_part(foreign), foreign);
            // Written behind ours meanwhile; and an older form of ours.
            let more = with.replace("save_env", "save") + "set timeout=9\n";
            assert_eq!(without_part(&more), format!("{foreign}set timeout=9\n"));
            assert_eq!(
                without_part(&with_part(&more)),
                format!("{foreign}set timeout=9\n")
            );
        }
        assert_eq!(without_part(&with_part("set timeout=5")), "set timeout=5\n");
        let endless = format!("{BEGIN}\nset timeout=5\n");
        assert_eq!(without_part(&endless), endless);
    }

    #[test]
    fn the_part_is_what_grub_was_tried_with() {
        assert_eq!(
            part(),
            r#"# BEGIN lifecycle-agent boot fallback
# A new release has some attempts to boot; behind them the release that it was installed from is started.
load_env lca_boot_counter lca_fallback_entry
if [ -n "${lca_fallback_entry}" -a -n "${lca_boot_counter}" ]; then
  set fallback=1
  if [ "${lca_boot_counter}" = "0" ]; then
    set default="${lca_fallback_entry}"
  else
    if [ "${lca_boot_counter}" = "1" ]; then set lca_boot_counter=0
    elif [ "${lca_boot_counter}" = "2" ]; then set lca_boot_counter=1
    elif [ "${lca_boot_counter}" = "3" ]; then set lca_boot_counter=2
    elif [ "${lca_boot_counter}" = "4" ]; then set lca_boot_counter=3
    elif [ "${lca_boot_counter}" = "5" ]; then set lca_boot_counter=4
    else set lca_boot_counter=0
    fi
    save_env lca_boot_counter
  fi
fi
# END lifecycle-agent boot fallback
"#
        );
    }
}
