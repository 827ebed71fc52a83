"""To the Hub in steps: a pull request holds everything until it was downloaded again, compared and loaded; then it is
merged and tagged.

`main` changes by one request, the merge, which is atomic on the Hub. Whatever fails before it leaves `main` as it was;
whatever fails after it is made good by the next call, which finds the pull request by its title, or `main` as wanted.
A new repository is private until the end, whoever may see it then.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from distill.errors import InputError, RunError
from distill.progress import LOG
from distill.publishing import folder as files
from distill.publishing.folder import MANIFEST, File, FileTable
from distill.publishing.text import visible

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Kind = Literal["model", "dataset"]
_HUB_FILES = (".gitattributes",)
"""Files that the Hub keeps for itself."""


class HubRepository:
    """A repository to publish to.

    Args:
        id: `org/name`.
        public: whether all may see it in the end.
        replace: whether files that publishing did not put there may be removed.

    Raises:
        InputError: no token, a token that is refused, or no right to write.
        RunError: the Hub cannot be reached, or answers with an error.
    """

    def __init__(self, id: str, kind: Kind, *, public: bool, replace: bool) -> None:
        from huggingface_hub import HfApi

        self.id = id
        self.kind = kind
        self.public = public
        self.replace = replace
        self._api: HfApi = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)

    @property
    def url(self) -> str:
        """The repository's address."""
        if self.kind == "dataset":
            return f"{self._api.endpoint}/datasets/{self.id}"
        return f"{self._api.endpoint}/{self.id}"

    def publish(
        self,
        source: Path,
        files_to_publish: FileTable,
        provenance: str,
        verify_folder: Callable[[Path], None],
        report_step: Callable[[str], None],
    ) -> dict[str, object]:
        """Make main hold exactly these files, and tag it.

        Args:
            source: the folder to publish, which holds `files_to_publish`.
            verify_folder: loads what was downloaded again; raises where it does not work.
            report_step: is told each step.

        Returns: `commit` of main, `tag`, and whether anything `changed`.
        """
        tag = f"v{provenance}"
        with self._hub_errors():
            report_step("asking the Hub who you are")
            self._api.whoami()
            head, tags = self._open_repository(report_step)
            published_files = self._remote_files(head)
            changed = not _is_same_table(files_to_publish, published_files)
            if changed:
                self._refuse_foreign(published_files, head)
                report_step("staging")
                number, commit = self._open_pull_request(source, files_to_publish, published_files, head, provenance)
                report_step("downloading it again")
                self._verify_download(commit, files_to_publish, verify_folder)
                report_step("merging")
                head = self._merge(number, head, files_to_publish)
            if tags.get(tag) != head:
                changed = True
                report_step("tagging")
                if tag in tags:
                    self._api.delete_tag(self.id, tag=tag, repo_type=self.kind)
                self._api.create_tag(self.id, tag=tag, revision=head, repo_type=self.kind)
            changed = self._make_public() or changed
        return {"commit": head, "tag": tag, "changed": changed, "url": self.url}

    def _open_repository(self, report_step: Callable[[str], None]) -> tuple[str, dict[str, str]]:
        """Head of main, and the tags; creates the repository where there is none."""
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            info = self._api.repo_info(self.id, repo_type=self.kind)
        except RepositoryNotFoundError:
            report_step("creating the repository, private")
            self._api.create_repo(self.id, repo_type=self.kind, private=True, exist_ok=True)
            info = self._api.repo_info(self.id, repo_type=self.kind)
        if info.private is False and not self.public:
            raise InputError(
                "is public, and publishing is private by default",
                where=self.url,
                fix="give --public, or make the repository private first",
            )
        refs = self._api.list_repo_refs(self.id, repo_type=self.kind)
        return str(info.sha), {ref.name: ref.target_commit for ref in refs.tags}

    def _remote_files(self, revision: str) -> FileTable:
        """Files of a revision; of large ones only the SHA-256 is known, of small ones only what git calls them."""
        from huggingface_hub import RepoFile

        files_by_path = {}
        for entry in self._api.list_repo_tree(self.id, recursive=True, revision=revision, repo_type=self.kind):
            if isinstance(entry, RepoFile) and entry.path not in _HUB_FILES:
                if entry.lfs:
                    files_by_path[entry.path] = File(size=entry.size, sha256=entry.lfs.sha256, git="")
                else:
                    files_by_path[entry.path] = File(size=entry.size, sha256="", git=entry.blob_id)
        return files_by_path

    def _refuse_foreign(self, published_files: FileTable, head: str) -> None:
        """Stop before anything that is not ours is removed.

        Raises:
            InputError: main holds what publishing did not put there, or what was changed since.
        """
        if not published_files or self.replace:
            return
        manifest: FileTable | None = None
        if MANIFEST in published_files:
            with tempfile.TemporaryDirectory(prefix="distill-") as temporary_folder:
                path = self._api.hf_hub_download(
                    self.id, MANIFEST, revision=head, repo_type=self.kind, local_dir=temporary_folder
                )
                manifest = files.read_manifest(Path(path).read_bytes())
        manifest_files = manifest or {}
        foreign_names = [
            name
            for name, file in published_files.items()
            if name != MANIFEST and (name not in manifest_files or not _is_same_file(manifest_files[name], file))
        ]
        if manifest is None or foreign_names:
            names = ", ".join(visible(name, 60) for name in (foreign_names or [MANIFEST])[:3])
            raise InputError(
                f"main holds what was not published from here: {names}",
                where=self.url,
                fix="choose another name, or --set publish.replace=true to remove it (its history stays)",
            )

    def _open_pull_request(
        self, source: Path, files_to_publish: FileTable, published_files: FileTable, head: str, provenance: str
    ) -> tuple[int, str]:
        """Number and commit of a pull request that holds exactly these files, an earlier one if it does."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        title = f"distill publish {provenance}"
        pull_requests = self._api.get_repo_discussions(self.id, discussion_type="pull_request", repo_type=self.kind)
        for pull_request in pull_requests:
            if pull_request.title == title and pull_request.status in ("open", "draft"):
                revision = f"refs/pr/{pull_request.num}"
                commit = str(self._api.repo_info(self.id, revision=revision, repo_type=self.kind).sha)
                if _is_same_table(files_to_publish, self._remote_files(commit)):
                    LOG.info("going on with pull request %d", pull_request.num)
                    return pull_request.num, commit
        superfluous = [name for name in published_files if name not in files_to_publish]
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationDelete(path_in_repo=name) for name in superfluous
        ]
        for name in files_to_publish:
            operations.append(CommitOperationAdd(path_in_repo=name, path_or_fileobj=source / name))
        created = self._api.create_commit(
            self.id, operations, commit_message=title, repo_type=self.kind, create_pr=True, parent_commit=head
        )
        if created.pr_num is None:
            raise RunError("the Hub opened no pull request", where=self.url, fix="give the same command again")
        return created.pr_num, created.oid

    def _verify_download(self, commit: str, files_to_publish: FileTable, verify_folder: Callable[[Path], None]) -> None:
        with tempfile.TemporaryDirectory(prefix="distill-") as temporary_folder:
            downloaded = Path(temporary_folder) / "back"
            self._api.snapshot_download(self.id, revision=commit, repo_type=self.kind, local_dir=downloaded)
            files.require_same(files_to_publish, files.file_table(downloaded), f"{self.url} at {commit}")
            verify_folder(downloaded)

    def _merge(self, number: int, head: str, files_to_publish: FileTable) -> str:
        """Merge, unless main has moved meanwhile, and return the new head of main."""
        current_head = str(self._api.repo_info(self.id, repo_type=self.kind).sha)
        if current_head != head:
            raise RunError("main was changed meanwhile", where=self.url, fix="give the same command again")
        status = self._api.get_discussion_details(self.id, number, repo_type=self.kind).status
        if status == "draft":  # the Hub merges none
            self._api.change_discussion_status(self.id, number, "open", repo_type=self.kind)
        self._api.merge_pull_request(self.id, number, repo_type=self.kind)
        head = str(self._api.repo_info(self.id, repo_type=self.kind).sha)
        if not _is_same_table(files_to_publish, self._remote_files(head)):
            raise RunError("main does not hold what was merged", where=self.url, fix="give the same command again")
        return head

    def _make_public(self) -> bool:
        """Make the repository public if asked, and return whether that was a change."""
        if not self.public or self._api.repo_info(self.id, repo_type=self.kind).private is False:
            return False
        self._api.update_repo_settings(self.id, private=False, repo_type=self.kind)
        return True

    @contextmanager
    def _hub_errors(self) -> Iterator[None]:
        """The boundary to the Hub: its errors become one line that names request, answer and remedy, and no token."""
        from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

        unreachable: tuple[type[Exception], ...] = (ValueError, RuntimeError, *HfHubHTTPError.__bases__)
        login = "run `hf auth login`, or set HF_TOKEN to a token that may write"
        try:
            yield
        except LocalTokenNotFoundError as error:
            raise InputError("the Hub needs to know who you are", where=self._api.endpoint, fix=login) from error
        except OfflineModeIsEnabled as error:
            raise InputError("offline mode is on", where="HF_HUB_OFFLINE", fix="unset it") from error
        except HfHubHTTPError as error:
            status = error.response.status_code
            request = error.response.request
            where = f"{request.method} {request.url.path}"
            reply = _redacted(error.server_message or str(error))
            if status == 401:
                raise InputError(f"the Hub refuses the token: {reply}", where=where, fix=login) from None
            if status == 403:
                fix = "use a token that may write to it, or give --to another name"
                raise InputError(f"the Hub forbids it: {reply}", where=where, fix=fix) from None
            raise RunError(f"the Hub answered {status}: {reply}", where=where, fix=_AGAIN) from None
        except unreachable as error:
            cause = f" ({error.__cause__})" if error.__cause__ else ""  # uploads say no more than which file it was
            reply = _redacted(f"{error}{cause}")
            raise RunError(f"publishing stopped: {reply}", where=self.url, fix=_AGAIN) from None


_AGAIN = "give the same command again: it goes on from there, and main changes only when everything is verified"


def _redacted(text: str) -> str:
    """One line of what the Hub or its client says, without anything that looks like a token."""
    from huggingface_hub import get_token

    token = get_token()
    if token:
        text = text.replace(token, "…")
    return visible(re.sub(r"\b(hf|api_org)_\w{4,}|Bearer\s+\S+", "…", text))


def _is_same_file(first: File, second: File) -> bool:
    """Whether two are the same file, as far as both tell."""
    if first.size != second.size:
        return False
    if first.sha256 and second.sha256:
        return first.sha256 == second.sha256
    return first.git == second.git


def _is_same_table(first: FileTable, second: FileTable) -> bool:
    return first.keys() == second.keys() and all(_is_same_file(file, second[name]) for name, file in first.items())
